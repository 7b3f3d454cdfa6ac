"""Networks of `pag.families.kandinsky`."""

from typing import Any

import torch
from diffusers import Kandinsky5Transformer3DModel, Kandinsky6Transformer3DModel
from torch import Generator

from tests.denoisers._network import Network, randn
from tests.denoisers.hunyuan_video import masks

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


def _make6(**config: Any) -> Kandinsky6Transformer3DModel:
    tiny: dict[str, Any] = {
        "in_visual_dim": 4,
        "out_visual_dim": 4,
        "in_text_dim": 16,
        "in_text_dim2": 8,
        "time_dim": 16,
        "model_dim": 24,
        "ff_dim": 32,
        "num_text_blocks": 1,
        "num_visual_blocks": 3,
        "axes_dims": (4, 4, 4),
        "in_audio_dim": 6,
        "out_audio_dim": 6,
        "model_dim_a": 12,
        "time_dim_a": 16,
        "ff_dim_a": 24,
        "axes_dims_a": (4, 4, 4),
        "visual_token_type_num_embeddings": 2,
    }
    return Kandinsky6Transformer3DModel(**(tiny | config))


def _inputs6(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 3, 4, 4, 9),
        "audio_hidden_states": randn(generator, rows, 7, 6),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": masks(rows, generator).bool(),
        "pooled_projections": randn(generator, rows, 8),
        "timestep": torch.full((rows,), 500.0),
    }


def _silent(rows: int, generator: Generator) -> dict[str, Any]:
    """The last frame is a picture that the video begins with."""
    inputs = _inputs6(rows, generator)
    del inputs["audio_hidden_states"]
    return inputs | {
        "visual_token_type_ids": torch.tensor([0, 0, 1]).repeat(rows, 1),
        "visual_rope_pos": (torch.tensor([0, 1, 0]), torch.arange(2), torch.arange(2)),
    }


_PATHS6 = tuple(f"visual_transformer_blocks.{index}.video_dec_block.self_attention" for index in (0, 2))
_UNCOND6 = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")


def _network(make: Any, inputs: Any) -> Network:
    return Network(
        make,
        inputs,
        ("visual_transformer_blocks.0.self_attention", "visual_transformer_blocks.2.self_attention"),
        frames=3,
        tables=("visual_rope_pos", "text_rope_pos"),
        uncond=("encoder_hidden_states", "pooled_projections"),
        xfail={"half": "its time embedding computes in float32, for layers that were cast by hand to half precision"},
    )


NETWORKS = {
    "kandinsky5": _network(_make, _inputs),
    "kandinsky5_given_frames": _network(
        lambda: _make(visual_cond=True), lambda rows, generator: _inputs(rows, generator, 9)
    ),
    "kandinsky6": Network(
        lambda: _make6(ca_rope=True, cross_gates=True, fix_modulation=True),
        _inputs6,
        _PATHS6,
        frames=3,
        predictions=2,
        uncond=_UNCOND6,
    ),
    "kandinsky6_silent": Network(_make6, _silent, _PATHS6, frames=3, tables=("visual_rope_pos",), uncond=_UNCOND6),
}
