"""What is known of ADM, the U-Nets of guided-diffusion, on top of other U-Nets without text."""

import re
from dataclasses import replace
from typing import Any

from torch import nn

from pag.families import unet
from pag.layers import Site

_PATH = re.compile(r"(?P<part>down|mid|up)_blocks?\.(?:(?P<level>\d+)\.)?attentions\.(?P<index>\d+)")


def adm_sites(model: Any) -> tuple[Site, ...]:
    """Self-attention layers; those of ADM with their names in guided-diffusion too."""
    if not is_adm(model):
        return unet.sites(model)
    each: int = model.config["layers_per_block"] + 1
    return tuple(replace(site, original=_original(site.path, each)) for site in unet.sites(model))


def _original(path: str, each: int) -> str:
    """The name there: a level has one block more than it has layers, for the change of resolution or the first skip."""
    match = _PATH.fullmatch(path)
    if match is None:
        return ""
    if match["part"] == "mid":
        return "middle_block.1"
    block = int(match["level"]) * each + int(match["index"])
    return f"input_blocks.{block + 1}.1" if match["part"] == "down" else f"output_blocks.{block}.1"


def adm_layers(model: nn.Module) -> tuple[str, ...]:
    """The layers that the authors of PAG perturb in ADM (arXiv 2403.17377), by their place.

    ``input_blocks.14.1 16.1 17.1 middle_block.1`` of the models for 256×256 pixels are the last layer at the last
    resolution but one on the way down, all layers at the lowest resolution there, and the middle one.
    """
    if not is_adm(model):
        return ()
    down: dict[str, list[str]] = {}
    for site in unet.sites(model):
        if site.path.startswith("down_blocks."):
            down.setdefault(site.path.split(".")[1], []).append(site.path)
    *_, before, lowest = ([], [], *down.values())
    return (*before[-1:], *lowest, "mid_block.attentions.0")


def is_adm(model: Any) -> bool:
    """Whether a U-Net without text is built as ADM: the time scales and shifts, or the middle's norm is given."""
    config = model.config
    shifts = config["resnet_time_scale_shift"] == "scale_shift" or config["attn_norm_num_groups"] is not None
    return shifts and config["add_attention"] and config["mid_block_type"] is not None


def learned_variance(model: Any) -> bool:
    """Whether the second half of the output is a variance; an upsampler's input has as many channels as that."""
    told, config = model.config.get("learned_variance"), model.config
    return config.out_channels == 2 * config.in_channels if told is None else told
