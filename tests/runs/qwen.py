"""Runs on networks of `pag.families.qwen`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
