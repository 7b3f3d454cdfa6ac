"""Runs on networks of `pag.families.flux_relatives`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
