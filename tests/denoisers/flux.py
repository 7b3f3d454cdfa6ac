"""Networks of `pag.families.flux`."""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
IDS = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))


def _make(**config: Any) -> FluxTransformer2DModel:
    tiny: dict[str, Any] = {
        "patch_size": 1,
        "in_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 16,
        "axes_dims_rope": (4, 4, 8),
        "guidance_embeds": True,
    }
    return FluxTransformer2DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "pooled_projections": randn(generator, rows, 16),
        "timestep": torch.full((rows,), 0.5),
        "guidance": torch.full((rows,), 3.5),
        "img_ids": IDS,
        "txt_ids": torch.zeros(TEXT, 3),
    }


NETWORKS = {
    "flux": Network(
        _make,
        _inputs,
        ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn"),
        slice(TEXT, TEXT + 16),
        tables=("img_ids", "txt_ids"),
        uncond=("encoder_hidden_states", "pooled_projections"),
    ),
}
