"""Runs on networks of `pag.families.other_unets`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
