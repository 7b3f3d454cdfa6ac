"""Runs on networks of `pag.families.sd3`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
