"""Runs on networks of `pag.families.single_stream`."""

from tests.runs._run import Run

RUNS: dict[str, Run] = {}
