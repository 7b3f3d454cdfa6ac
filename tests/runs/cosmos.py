"""Runs on networks of `pag.families.cosmos`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
