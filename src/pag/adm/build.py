"""Networks of diffusers, or of ours, for a layout."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from pag.adm.classifier import ADMClassifier
from pag.adm.layout import Layout
from pag.adm.names import translate
from pag.adm.published import Settings
from pag.adm.unet import ADMUNet
from pag.generate.errors import UserError

__all__ = ["build"]


def build(weights: Mapping[str, Tensor], layout: Layout, settings: Settings) -> Any:
    """The network that has these weights, which are not copied: an ``ADMClassifier``, or a U-Net.

    A U-Net is a ``UNet2DModel`` if that computes the same, else an ``ADMUNet``.

    Raises:
        UserError: some weights are missing, are too many, or are of other shapes.
    """
    translated = translate(weights, layout, settings)
    with torch.device("meta"):
        network = _network(layout, settings)
    _check(translated, network.state_dict())
    network.load_state_dict(translated, assign=True)
    return network.eval().requires_grad_(False)


def _network(layout: Layout, settings: Settings) -> Any:
    config: dict[str, Any] = {
        "sample_size": settings.image_size,
        "in_channels": layout.in_channels,
        "block_out_channels": layout.channels,
        "layers_per_block": layout.res_blocks,
        "down_block_types": tuple(_block(layout, attends, "Down") for attends in layout.attention),
        "downsample_type": "resnet" if layout.resblock_updown else "conv",
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
    }
    if layout.classifier:
        return ADMClassifier(**config, **_classifier(layout, settings))
    config |= {
        "out_channels": layout.out_channels,
        "up_block_types": tuple(_block(layout, attends, "Up") for attends in reversed(layout.attention)),
        "upsample_type": config["downsample_type"],
        "attention_head_dim": _head_channels(layout, settings),
        "attn_norm_num_groups": 32,  # which the middle block lacks else, with scale and shift
        "num_class_embeds": layout.classes,
    }
    own = _own(layout, settings)
    return ADMUNet(**config, **own) if own else UNet2DModel(**config)


def _block(layout: Layout, attends: bool, way: str) -> str:
    if attends:
        return f"Attn{way}Block2D"
    return f"Resnet{way}sampleBlock2D" if layout.resblock_updown else f"{way}Block2D"


def _head_channels(layout: Layout, settings: Settings) -> int | None:
    """The width of the heads, if it is the same in all attention layers."""
    attending = [width for width, attends in zip(layout.channels, layout.attention, strict=True) if attends]
    widths = {width // settings.heads_of(width) for width in (*attending, layout.channels[-1])}
    return widths.pop() if len(widths) == 1 else None


def _own(layout: Layout, settings: Settings) -> dict[str, Any]:
    """What ``UNet2DModel`` does not have."""
    own: dict[str, Any] = {}
    if _head_channels(layout, settings) is None:
        own["num_attention_heads"] = settings.heads
    if layout.model_channels != layout.channels[0]:
        own |= {"time_proj_dim": layout.model_channels, "time_embedding_dim": 4 * layout.model_channels}
    if layout.upsampler:
        own["learned_variance"] = layout.learned_variance
    return own


def _classifier(layout: Layout, settings: Settings) -> dict[str, Any]:
    if not settings.head_channels:
        raise UserError("a classifier's attention has heads of some width: give --head-channels, not --heads")
    return {
        "num_classes": layout.out_channels,
        "attention_head_dim": settings.head_channels,
        "time_proj_dim": None if layout.model_channels == layout.channels[0] else layout.model_channels,
    }


def _check(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    faults = [f"{name} is missing" for name in wanted if name not in given]
    faults += [f"{name} is too many" for name in given if name not in wanted]
    faults += [
        f"{name} is of shape {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"these are not all the weights of one model: {'; '.join(faults[:3])}{more}")
