"""Runs on networks of `pag.families.sana`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
