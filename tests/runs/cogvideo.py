"""Runs on networks of `pag.families.cogvideo`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
