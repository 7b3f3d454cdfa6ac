"""Runs on networks of `pag.families.class_conditional`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
