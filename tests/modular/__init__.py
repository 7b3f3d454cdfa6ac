"""Whole runs of diffusers' modular pipelines on tiny random components, by name of their blocks.

A second run of the same blocks has a note after a colon.
"""

from tests.modular import images, sounds, videos
from tests.modular._run import Formula, ModularRun

RUNS: dict[str, ModularRun] = {**images.RUNS, **videos.RUNS, **sounds.RUNS}

__all__ = ["RUNS", "Formula", "ModularRun"]
