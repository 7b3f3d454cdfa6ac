"""Runs on networks of `pag.families.flux2`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
