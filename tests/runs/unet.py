"""Runs on networks of `pag.families.unet`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
