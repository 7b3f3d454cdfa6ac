"""Networks of `pag.families.kandinsky`."""

from collections.abc import Generator as Contexts
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import Kandinsky5Transformer3DModel, Kandinsky6SRTransformer3DModel, Kandinsky6Transformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Generator, Tensor, nn

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


_HALF = {"half": "its time embedding computes in float32, for layers that were cast by hand to half precision"}


_ROUNDING = 5e-4
"""Queries and keys are rounded to bfloat16: where that turns the other way for the last bit of float32, it shows."""


def _network(make: Any, inputs: Any) -> Network:
    return Network(
        make,
        inputs,
        ("visual_transformer_blocks.0.self_attention", "visual_transformer_blocks.2.self_attention"),
        frames=3,
        tables=("visual_rope_pos", "text_rope_pos"),
        uncond=("encoder_hidden_states", "pooled_projections"),
        rounding=_ROUNDING,
        xfail=_HALF,
    )


def _sparse() -> Kandinsky5Transformer3DModel:
    window = dict.fromkeys(("attention_wT", "attention_wW", "attention_wH"), 1)
    model = _make(attention_type="nabla", attention_P=0.5, **window)
    for block in model.visual_transformer_blocks:  # `set_attention_backend` would set it for all models there are
        block.self_attention.processor._attention_backend = AttentionBackendName.FLEX  # pyright: ignore
    return model


def _sparse_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    """3 frames of one block of 8×8 patches; all blocks see their neighbours, and others only if they must."""
    near = (torch.arange(3)[:, None] - torch.arange(3)).abs() <= 0
    return _inputs(rows, generator) | {
        "hidden_states": randn(generator, rows, 3, 16, 16, 4),
        "visual_rope_pos": [torch.arange(3), torch.arange(8), torch.arange(8)],
        "sparse_params": {"sta_mask": near[None, None], "to_fractal": True, "P": 0.5},
    }


def _super_resolution(**config: Any) -> Kandinsky6SRTransformer3DModel:
    tiny: dict[str, Any] = {
        "in_visual_dim": 4,
        "out_visual_dim": 4,
        "time_dim": 16,
        "model_dim": 24,
        "ff_dim": 32,
        "num_visual_blocks": 3,
        "axes_dims": (4, 4, 4),
        "nabla_window": (1, 1, 1),
        "nabla_threshold": 0.5,
        "tile_sizes": ((128, 128),),
    }
    return Kandinsky6SRTransformer3DModel(**(tiny | config))


def _tiles(rows: int, generator: Generator) -> dict[str, Any]:
    return {"hidden_states": randn(generator, rows, 2, 16, 8, 9), "timestep": torch.full((rows,), 500.0)}


class _Values:
    """Attention of each token to itself."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return attn.out_layer(attn.to_value(hidden_states))


@contextmanager
def to_itself(model: nn.Module, path: str) -> Contexts[None]:
    """The network with the identity for attention map at a layer whose operation is sparse."""
    module: Any = model.get_submodule(path)
    before, module.processor = module.processor, _Values()
    try:
        yield
    finally:
        module.processor = before


PATHS_SR = ("visual_transformer_blocks.0.self_attention", "visual_transformer_blocks.2.self_attention")

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
    "kandinsky5_sparse": Network(
        _sparse,
        _sparse_inputs,
        PATHS_SR,
        tables=("visual_rope_pos", "text_rope_pos", "sparse_params"),
        uncond=("encoder_hidden_states", "pooled_projections"),
        reference=to_itself,
        rounding=_ROUNDING,
        xfail=_HALF,
    ),
    "kandinsky6_sr": Network(
        _super_resolution,
        _tiles,
        PATHS_SR,
        uncond=("hidden_states",),
        reference=to_itself,
    ),
}
