"""Tiny random networks, at least one of each denoiser class that diffusers has, by name.

A module of this package is a group of networks: it has a dictionary ``NETWORKS``.
"""

from tests.denoisers import (
    class_conditional,
    cross_attention,
    flux,
    hunyuan_video,
    other_unets,
    qwen,
    sd3,
    wan,
)
from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {
    **other_unets.NETWORKS,
    **class_conditional.NETWORKS,
    **cross_attention.NETWORKS,
    **sd3.NETWORKS,
    **flux.NETWORKS,
    **qwen.NETWORKS,
    **wan.NETWORKS,
    **hunyuan_video.NETWORKS,
}

__all__ = ["NETWORKS", "Network"]
