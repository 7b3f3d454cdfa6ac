"""ControlNets, which run ahead of the denoiser. They are not guided, but rows that nobody reads are not run."""

from typing import Any

import torch
from torch import nn

from pag.families import unet
from pag.families._family import ROWS, Family

TRUNK_ARGUMENTS = ("sample", "controlnet_cond", "timestep", "class_labels", "timestep_cond", "attention_mask")
ROW_ARGUMENTS = (*TRUNK_ARGUMENTS, "encoder_hidden_states", "added_cond_kwargs", "control_type")


def _no_sites(model: nn.Module) -> tuple[()]:
    return ()


CONTROLNET = Family(
    models=("ControlNetModel",),
    sites=_no_sites,
    sample="sample",
    trunk=("conv_in", "time_embedding", "controlnet_cond_embedding", "down_blocks", "mid_block"),
    trunk_arguments=TRUNK_ARGUMENTS,
    row_arguments=ROW_ARGUMENTS,
    text_entry=unet.text_entry,
)

BESIDE_TEXT = Family(
    models=("ControlNetModel", "ControlNetUnionModel"),
    sites=_no_sites,
    sample="sample",
    trunk=("conv_in", "controlnet_cond_embedding"),
    trunk_arguments=TRUNK_ARGUMENTS,
    row_arguments=ROW_ARGUMENTS,
)
"""Where the prompt enters through the time embedding, as in SDXL's: what does not see that embedding."""

_IN_FRAMES = Family(
    models=("SparseControlNetModel",),
    sites=_no_sites,
    sample="sample",
    row_arguments=(*ROW_ARGUMENTS, "conditioning_mask"),
    folded_arguments=("encoder_hidden_states",),
)
_TRANSFORMERS = Family(
    models=("HunyuanDiT2DControlNetModel", "SD3ControlNetModel", "SanaControlNetModel"),
    sites=_no_sites,
    row_arguments=(
        *ROWS,
        "controlnet_cond",
        "encoder_hidden_states_t5",
        "text_embedding_mask",
        "text_embedding_mask_t5",
        "image_meta_size",
        "style",
    ),
)
UNSHARED = {model: family for family in (_IN_FRAMES, _TRANSFORMERS) for model in family.models}
"""Without a trunk: their rows are not shared, but they can be left out."""


def controlnets_of(pipe: Any) -> list[nn.Module]:
    """The ControlNets of a pipeline, each as often as it runs in a step."""
    component = getattr(pipe, "controlnet", None)
    nets: Any = getattr(component, "nets", component)
    each: list[Any] = list(nets) if isinstance(nets, nn.ModuleList | list | tuple) else [nets]  # pyright: ignore
    return [net for net in each if isinstance(net, nn.Module)]


def controlnet_family(net: Any) -> Family | None:
    """What is known of a ControlNet, or None."""
    name = type(net).__name__
    if name == "ControlNetModel" and unet.text_entry(net) is not None:
        return CONTROLNET
    return BESIDE_TEXT if name in BESIDE_TEXT.models else UNSHARED.get(name)


def controlnet_example(net: Any, denoiser: dict[str, Any], rows: int) -> dict[str, Any]:
    """Arguments of a ControlNet's ``forward``, from those of its denoiser's.

    Args:
        net: the ControlNet.
        denoiser: arguments of the denoiser's ``forward``, for as many rows.
        rows: number of rows.
    """
    config, device = net.config, net.device
    height, width = denoiser["sample"].shape[-2:]
    shrink = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    picture = torch.empty(rows, config.conditioning_channels, shrink * height, shrink * width, device=device)
    arguments = {name: denoiser[name] for name in ("timestep", "encoder_hidden_states")}
    arguments |= {"sample": denoiser["sample"][:, : config.in_channels], "controlnet_cond": picture}
    if "added_cond_kwargs" in denoiser:
        arguments["added_cond_kwargs"] = denoiser["added_cond_kwargs"]
    if "num_control_type" in config:  # of all kinds of pictures, one is given
        kinds = torch.zeros(rows, config.num_control_type, device=device)
        arguments |= {"controlnet_cond": [picture], "control_type": kinds, "control_type_idx": [0]}
    return arguments
