"""Runs on networks of `pag.families.audio`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
