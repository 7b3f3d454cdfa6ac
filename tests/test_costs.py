"""What is run is the least that exact arithmetic allows: counted at full size, without weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    LTXVideoTransformer3DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    WanTransformer3DModel,
)
from torch import nn

import pag

_XL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SD35: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
_WAN: dict[str, Any] = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}

MODELS: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "SD 1.5": (lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768), 1.684, 2.633),
    "SDXL": (lambda: UNet2DConditionModel(**_XL), 1.665, 2.665),
    "SD 3.5 medium": (lambda: SD3Transformer2DModel(**_SD35), 1.347, 2.347),
    "Flux": (lambda: FluxTransformer2DModel(guidance_embeds=True), 1.748, 2.748),
    "PixArt": (lambda: PixArtTransformer2DModel(caption_channels=4096, use_additional_conditions=False), 1.483, 2.465),
    "Sana": (SanaTransformer2DModel, 1.588, 2.574),
    "LTX-Video": (LTXVideoTransformer3DModel, 1.304, 2.286),
    "Wan 1.3B": (lambda: WanTransformer3DModel(**_WAN), 1.475, 2.475),
}
"""Published architectures, and the forwards a step at the recommended layers: PAG alone, with CFG in the same call."""


SEVERAL = {"SD 1.5": "mid, u0", "SD 3.5 medium": "12, 13", "PixArt": "12, 13, 14, 15", "Wan 1.3B": "14, 15, 29"}
"""Layers, of which all but the first are perturbed in rows that differ already."""


@pytest.mark.parametrize("name", SEVERAL)
def test_the_floor_is_reached_with_several_layers(name: str):
    """Where the image's tokens are alone, perturbed rows have neither queries nor keys."""
    with torch.device("meta"):
        model = MODELS[name][0]()
    cost = pag.cost(model, layers=SEVERAL[name])
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.005 * cost.floor


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_the_floor_is_reached(name: str, cfg: bool):
    make, alone, both = MODELS[name]
    with torch.device("meta"):
        model = make()
    cost = pag.cost(model, cfg=cfg)
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.02 * cost.floor
    assert cost.executed == pytest.approx(both if cfg else alone, abs=0.002)
    assert cost.rows == (3 if cfg else 2)


def test_without_sharing_every_row_is_run_but_for_the_map_of_attention():
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    cost = pag.cost(model, share_rows=False)
    assert 2.99 < cost.executed < 3
