"""Networks of `pag.families.class_conditional`."""

from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn


def _dit(**config: Any) -> DiTTransformer2DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 3,
        "sample_size": 8,
        "patch_size": 2,
    }
    return DiTTransformer2DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "timestep": torch.full((rows,), 500),
        "class_labels": torch.randint(0, 1000, (rows,), generator=generator),
    }


_PATHS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")

NETWORKS = {
    "dit": Network(_dit, _inputs, _PATHS, variance=True, uncond=("class_labels",)),
    "dit: fixed variance": Network(lambda: _dit(out_channels=4), _inputs, _PATHS, uncond=("class_labels",)),
}
