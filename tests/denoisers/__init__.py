"""Tiny random networks, at least one of each denoiser class that diffusers has, by name.

A module of this package is a group of networks: it has a dictionary ``NETWORKS``.
"""

from tests.denoisers import (
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
    other_unets,
    other_videos,
    qwen,
    qwen_relatives,
    sana,
    sd3,
    single_stream,
    two_stacks,
    unet,
    wan,
)
from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {
    **unet.NETWORKS,
    **other_unets.NETWORKS,
    **class_conditional.NETWORKS,
    **cross_attention.NETWORKS,
    **sana.NETWORKS,
    **sd3.NETWORKS,
    **flux.NETWORKS,
    **flux_relatives.NETWORKS,
    **flux2.NETWORKS,
    **qwen.NETWORKS,
    **qwen_relatives.NETWORKS,
    **single_stream.NETWORKS,
    **two_stacks.NETWORKS,
    **cogview.NETWORKS,
    **wan.NETWORKS,
    **ltx.NETWORKS,
    **cogvideo.NETWORKS,
    **hunyuan_video.NETWORKS,
    **cosmos.NETWORKS,
    **kandinsky.NETWORKS,
    **other_videos.NETWORKS,
    **audio.NETWORKS,
}

__all__ = ["NETWORKS", "Network"]
