"""Runs on networks of `pag.families.kandinsky`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
