"""Runs on networks of `pag.families.hunyuan_video`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
