"""Runs on networks of `pag.families.cross_attention`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
