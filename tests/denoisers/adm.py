"""ADM, the networks of `pag.families.other_unets` that `pag.adm` converts."""

from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Generator

from pag import ADMUNet
from tests.denoisers._network import Network, randn

CLASSES = 10
_TIME = torch.tensor(500)
_ADM: dict[str, Any] = {
    "sample_size": 16,
    "out_channels": 6,
    "block_out_channels": (16, 16, 32),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 8,
    "norm_num_groups": 8,
    "attn_norm_num_groups": 8,
    "resnet_time_scale_shift": "scale_shift",
}


def adm(**config: Any) -> UNet2DModel:
    """As those for 256×256 pixels."""
    return UNet2DModel(**(_ADM | config))


def own(**config: Any) -> ADMUNet:
    """With a fixed number of heads at two widths, and a first level that is narrower than the time's embedding."""
    added: dict[str, Any] = {
        "block_out_channels": (16, 32),
        "down_block_types": ("AttnDownBlock2D",) * 2,
        "up_block_types": ("AttnUpBlock2D",) * 2,
        "num_attention_heads": 2,
        "time_proj_dim": 32,
        "time_embedding_dim": 128,
    }
    return ADMUNet(**(_ADM | added | config))


def _inputs(channels: int, classes: bool = True) -> Any:
    def inputs(rows: int, generator: Generator) -> dict[str, Any]:
        labels = {"class_labels": torch.randint(0, CLASSES, (rows,), generator=generator)} if classes else {}
        return {"sample": randn(generator, rows, channels, 16, 16), "timestep": _TIME} | labels

    return inputs


_PATHS = ("down_blocks.1.attentions.0", "down_blocks.2.attentions.0", "mid_block.attentions.0")

NETWORKS = {
    "adm": Network(
        lambda: adm(num_class_embeds=CLASSES),
        _inputs(3),
        _PATHS,
        tables=("timestep",),
        variance=True,
        uncond=("class_labels",),
    ),
    "adm: heads": Network(
        own,
        _inputs(3, classes=False),
        ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.1"),
        tables=("timestep",),
        variance=True,
        uncond=(),
    ),
    "adm: upsampler": Network(
        lambda: own(in_channels=6, num_class_embeds=CLASSES, learned_variance=True),
        _inputs(6),
        ("mid_block.attentions.0",),
        tables=("timestep",),
        variance=True,
        uncond=("class_labels",),
    ),
}
