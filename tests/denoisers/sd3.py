"""Networks of `pag.families.sd3`."""

from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5


def _make(**config: Any) -> SD3Transformer2DModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 16,
        "out_channels": 4,
        "pos_embed_max_size": 16,
    }
    return SD3Transformer2DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "pooled_projections": randn(generator, rows, 16),
        "timestep": torch.full((rows,), 500.0),
    }


_UNCOND = ("encoder_hidden_states", "pooled_projections")

NETWORKS = {
    "sd3": Network(
        _make,
        _inputs,
        ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
        slice(0, 16),
        uncond=_UNCOND,
    ),
    "sd35": Network(
        lambda: _make(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        _inputs,
        ("transformer_blocks.1.attn", "transformer_blocks.1.attn2", "transformer_blocks.2.attn"),
        {
            "transformer_blocks.1.attn": slice(0, 16),
            "transformer_blocks.1.attn2": None,
            "transformer_blocks.2.attn": slice(0, 16),
        },
        uncond=_UNCOND,
    ),
}
