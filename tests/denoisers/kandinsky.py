"""Networks of `pag.families.kandinsky`."""

from typing import Any

import torch
from diffusers import Kandinsky5Transformer3DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5


def _make(**config: Any) -> Kandinsky5Transformer3DModel:
    tiny: dict[str, Any] = {
        "in_visual_dim": 4,
        "in_text_dim": 16,
        "in_text_dim2": 8,
        "time_dim": 16,
        "out_visual_dim": 4,
        "patch_size": (1, 2, 2),
        "model_dim": 24,
        "ff_dim": 32,
        "num_text_blocks": 1,
        "num_visual_blocks": 3,
        "axes_dims": (4, 4, 4),
    }
    return Kandinsky5Transformer3DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator, channels: int = 4) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 3, 4, 4, channels),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "pooled_projections": randn(generator, rows, 8),
        "timestep": torch.full((rows,), 500.0),
        "visual_rope_pos": [torch.arange(3), torch.arange(2), torch.arange(2)],
        "text_rope_pos": torch.arange(TEXT),
    }


def _network(make: Any, inputs: Any) -> Network:
    return Network(
        make,
        inputs,
        ("visual_transformer_blocks.0.self_attention", "visual_transformer_blocks.2.self_attention"),
        frames=3,
        tables=("visual_rope_pos", "text_rope_pos"),
        uncond=("encoder_hidden_states", "pooled_projections"),
    )


NETWORKS = {
    "kandinsky5": _network(_make, _inputs),
    "kandinsky5_given_frames": _network(
        lambda: _make(visual_cond=True), lambda rows, generator: _inputs(rows, generator, 9)
    ),
}
