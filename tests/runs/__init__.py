"""Whole runs of diffusers pipelines on tiny random components, by name of the pipeline class.

A second run of a class has a note after a colon: ``"FluxPipeline: true CFG"``. A module of this package is a group of
runs: it has a dictionary ``RUNS``.
"""

from tests.runs import (
    class_conditional,
    cross_attention,
    flux,
    hunyuan_video,
    other_unets,
    qwen,
    sd3,
    unet,
    wan,
)
from tests.runs._run import Run, guided

RUNS: dict[str, Run] = {
    **unet.RUNS,
    **other_unets.RUNS,
    **class_conditional.RUNS,
    **cross_attention.RUNS,
    **sd3.RUNS,
    **flux.RUNS,
    **qwen.RUNS,
    **wan.RUNS,
    **hunyuan_video.RUNS,
}

__all__ = ["RUNS", "Run", "guided"]
