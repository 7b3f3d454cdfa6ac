"""Networks of `pag.families.flux2`."""

from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
IDS = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), torch.zeros(1))


def make(**config: Any) -> Flux2Transformer2DModel:
    """A network; without arguments one of Flux.2-dev."""
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "timestep_guidance_channels": 16,
        "axes_dims_rope": (4, 4, 4, 4),
    }
    return Flux2Transformer2DModel(**(tiny | config))


def klein() -> Flux2Transformer2DModel:
    """A network without embedded guidance."""
    return make(guidance_embeds=False)


def _klein_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_ids": IDS.expand(rows, -1, -1),
        "txt_ids": torch.zeros(rows, TEXT, 4),
    }


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _klein_inputs(rows, generator) | {"guidance": torch.full((rows,), 4.0)}


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_TABLES = ("img_ids", "txt_ids")

NETWORKS = {
    "flux2": Network(make, _inputs, _PATHS, slice(TEXT, TEXT + 16), _TABLES),
    "flux2: klein": Network(klein, _klein_inputs, _PATHS, slice(TEXT, TEXT + 16), _TABLES),
}
