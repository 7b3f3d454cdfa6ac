"""Runs on networks of `pag.families.cogview`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
