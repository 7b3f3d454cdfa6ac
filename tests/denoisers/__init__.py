"""Tiny random networks, at least one of each denoiser class that diffusers has, by name.

A module of this package is a group of networks: it has a dictionary ``NETWORKS``.
"""

from tests.denoisers._network import Network
from tests.groups import tables

_MODULES = (
    "unet",
    "other_unets",
    "adm",
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
    "cogvideo",
    "hunyuan_video",
    "cosmos",
    "kandinsky",
    "other_videos",
    "audio",
)

NETWORKS: dict[str, Network] = tables(__name__, "NETWORKS", _MODULES)

__all__ = ["NETWORKS", "Network"]
