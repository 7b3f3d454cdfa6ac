"""Runs on networks of `pag.families.ltx`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
