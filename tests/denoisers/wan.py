"""Networks of `pag.families.wan`."""

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5


def _make(**config: Any) -> WanTransformer3DModel:
    tiny: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 3,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator, frames: int = 3) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, frames, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
    }


NETWORKS = {
    "wan": Network(_make, _inputs, ("blocks.0.attn1", "blocks.2.attn1"), frames=3),
    "wan with patches of two frames": Network(
        lambda: _make(patch_size=(2, 2, 2)),
        lambda rows, generator: _inputs(rows, generator, frames=4),
        ("blocks.1.attn1",),
        frames=2,
    ),
}
