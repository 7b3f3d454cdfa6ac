"""Whole runs of diffusers pipelines on tiny random components, by name of the pipeline class.

A second run of a class has a note after a colon: ``"FluxPipeline: true CFG"``. A module of this package is a group of
runs: it has a dictionary ``RUNS``.
"""

from tests.runs import (
    added_keys,
    audio,
    class_conditional,
    cogvideo,
    cogview,
    cosmos,
    cross_attention,
    flux,
    flux2,
    flux_relatives,
    hunyuan_video,
    kandinsky,
    ltx,
    ltx2,
    motion,
    other_unets,
    other_videos,
    qwen,
    qwen_relatives,
    sana,
    sd3,
    single_stream,
    two_stacks,
    unet,
    unet_xl,
    wan,
)
from tests.runs._run import Run, guided

RUNS: dict[str, Run] = {
    **unet.RUNS,
    **unet_xl.RUNS,
    **added_keys.RUNS,
    **motion.RUNS,
    **other_unets.RUNS,
    **class_conditional.RUNS,
    **cross_attention.RUNS,
    **sana.RUNS,
    **sd3.RUNS,
    **flux.RUNS,
    **flux_relatives.RUNS,
    **flux2.RUNS,
    **qwen.RUNS,
    **qwen_relatives.RUNS,
    **single_stream.RUNS,
    **two_stacks.RUNS,
    **cogview.RUNS,
    **wan.RUNS,
    **ltx.RUNS,
    **ltx2.RUNS,
    **cogvideo.RUNS,
    **hunyuan_video.RUNS,
    **cosmos.RUNS,
    **kandinsky.RUNS,
    **other_videos.RUNS,
    **audio.RUNS,
}

__all__ = ["RUNS", "Run", "guided"]
