"""Whole runs of diffusers pipelines on tiny random components, by name of the pipeline class.

A second run of a class has a note after a colon: ``"FluxPipeline: true CFG"``. A module of this package is a group of
runs: it has a dictionary ``RUNS``.
"""

from tests.groups import tables
from tests.runs._run import Run, guided

_MODULES = (
    "unet",
    "unet_xl",
    "added_keys",
    "motion",
    "other_unets",
    "class_conditional",
    "cross_attention",
    "sana",
    "sd3",
    "flux",
    "flux_relatives",
    "flux2",
    "qwen",
    "qwen_relatives",
    "single_stream",
    "two_stacks",
    "cogview",
    "wan",
    "ltx",
    "ltx2",
    "cogvideo",
    "hunyuan_video",
    "cosmos",
    "kandinsky",
    "other_videos",
    "audio",
)

RUNS: dict[str, Run] = tables(__name__, "RUNS", _MODULES)

__all__ = ["RUNS", "Run", "guided"]
