"""Networks of `pag.families.cogvideo`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel, MochiTransformer3DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5


def _cog(**config: Any) -> Callable[[], Any]:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
        "num_layers": 3,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 9,
        "max_text_seq_length": TEXT,
    }
    return lambda: CogVideoXTransformer3DModel(**(tiny | config))


def _cog_inputs(rows: int, generator: Generator, frames: int = 3, channels: int = 4) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, frames, channels, 4, 4),
        "timestep": torch.full((rows,), 500),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
    }


def _rotated(rows: int, generator: Generator, patches: int = 3, **inputs: Any) -> dict[str, Any]:
    angles = torch.arange(4.0 * patches)[:, None] * torch.logspace(0, -2, 8).repeat_interleave(2)
    return _cog_inputs(rows, generator, **inputs) | {"image_rotary_emb": (angles.cos(), angles.sin())}


def _mochi() -> MochiTransformer3DModel:
    return MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=4,
        max_sequence_length=TEXT,
    )


def _mochi_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.tensor([3, 4, 5, 2])[torch.randint(0, 4, (rows,), generator=generator)]
    return {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": (torch.arange(TEXT) < lengths[:, None]).float(),
    }


_SITES = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")
_ROPE = {"use_rotary_positional_embeddings": True}

NETWORKS = {
    "cogvideox": Network(_cog(), _cog_inputs, _SITES, slice(TEXT, TEXT + 12), frames=3),
    "cogvideox with rotary embeddings": Network(
        _cog(**_ROPE), _rotated, _SITES, slice(TEXT, TEXT + 12), tables=("image_rotary_emb",), frames=3
    ),
    "cogvideox from an image": Network(
        _cog(in_channels=8, use_learned_positional_embeddings=True, **_ROPE),
        partial(_rotated, channels=8),
        _SITES,
        slice(TEXT, TEXT + 12),
        tables=("image_rotary_emb",),
        frames=3,
    ),
    "cogvideox 1.5 from an image": Network(
        _cog(in_channels=8, patch_size_t=2, ofs_embed_dim=8, patch_bias=False, **_ROPE),
        lambda rows, generator: (
            _rotated(rows, generator, patches=2, frames=4, channels=8) | {"ofs": torch.full((1,), 2.0)}
        ),
        _SITES,
        slice(TEXT, TEXT + 8),
        tables=("image_rotary_emb", "ofs"),
        frames=2,
    ),
    "mochi": Network(
        _mochi,
        _mochi_inputs,
        _SITES,
        slice(0, 12),
        uncond=("encoder_hidden_states", "encoder_attention_mask"),
        frames=3,
    ),
}
