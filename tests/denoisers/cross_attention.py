"""Networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn


def _pixart(**config: Any) -> PixArtTransformer2DModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "num_layers": 3,
        "patch_size": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_channels": 16,
        "in_channels": 4,
        "cross_attention_dim": 16,
        "out_channels": 8,
        "use_additional_conditions": False,
    }
    return PixArtTransformer2DModel(**(tiny | config))


def _pixart_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]).repeat(rows, 1),
        "timestep": torch.full((rows,), 500.0),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


NETWORKS = {
    "pixart": Network(
        _pixart, _pixart_inputs, ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1"), variance=True
    )
}
