"""Networks of `pag.families.hunyuan_video`."""

from typing import Any

import torch
from diffusers import (
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoTransformer3DModel,
)
from torch import Generator, Tensor

from tests.denoisers._network import Network, randn

TEXT = 5
IMAGE = slice(0, 12)
"""3 frames of 2×2 patches; the text follows."""


TINY: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "patch_size": 2,
    "patch_size_t": 1,
    "text_embed_dim": 16,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (2, 4, 4),
}


def _make(**config: Any) -> HunyuanVideoTransformer3DModel:
    return HunyuanVideoTransformer3DModel(**(TINY | config))


def _framepack() -> HunyuanVideoFramepackTransformer3DModel:
    return HunyuanVideoFramepackTransformer3DModel(
        **TINY, has_image_proj=True, image_proj_dim=8, has_clean_x_embedder=True
    )


def _make15() -> HunyuanVideo15Transformer3DModel:
    return HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=3,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=8,
        image_embed_dim=12,
        rope_axes_dim=(2, 4, 4),
        target_size=32,
    )


def masks(rows: int, generator: Generator, tokens: int = TEXT) -> Tensor:
    """Which tokens of a text are there: another number of them in each row."""
    start = int(torch.randint(0, 3, (1,), generator=generator))
    lengths = torch.tensor([2 + (start + row) % (tokens - 1) for row in range(rows)])
    return (torch.arange(tokens)[None] < lengths[:, None]).float()


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": masks(rows, generator),
        "pooled_projections": randn(generator, rows, 8),
        "guidance": torch.full((rows,), 6000.0),
    }


def _with_history(rows: int, generator: Generator) -> dict[str, Any]:
    """1 token of twice as large patches and 4 of the largest, then 8 of clean latents, then what is denoised."""
    history = {"latents_clean": 2, "latents_history_2x": 2, "latents_history_4x": 16}
    given = _inputs(rows, generator) | {
        "image_embeds": randn(generator, rows, 4, 8),
        "indices_latents": torch.arange(21, 24),
    }
    for (name, count), first in zip(history.items(), (19, 17, 1), strict=True):
        given[name] = randn(generator, rows, 4, count, 4, 4)
        given[f"indices_{name}"] = torch.arange(first, first + count)
    return given


def _inputs15(rows: int, generator: Generator, image: float = 1.0) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 9, 3, 2, 2),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": masks(rows, generator),
        "encoder_hidden_states_2": randn(generator, rows, 4, 8),
        "encoder_attention_mask_2": masks(rows, generator, 4),
        "image_embeds": image * randn(generator, rows, 3, 12),
    }


def _with_image(rows: int, generator: Generator) -> dict[str, Any]:
    inputs = _inputs(rows, generator) | {"hidden_states": randn(generator, rows, 9, 3, 4, 4)}
    del inputs["guidance"]
    return inputs


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_UNCOND = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")
_PATHS15 = ("transformer_blocks.0.attn", "transformer_blocks.2.attn")
_UNCOND15 = tuple(f"encoder_{kind}{number}" for kind in ("hidden_states", "attention_mask") for number in ("", "_2"))
_UNCOUNTED15 = "the network asks whether there is an image"

NETWORKS = {
    "hunyuan_video": Network(_make, _inputs, _PATHS, IMAGE, frames=3, uncond=_UNCOND),
    "hunyuan_video_token_replace": Network(
        lambda: _make(image_condition_type="token_replace"), _inputs, _PATHS, IMAGE, frames=3, uncond=_UNCOND
    ),
    "hunyuan_video_latent_concat": Network(
        lambda: _make(image_condition_type="latent_concat", in_channels=9, guidance_embeds=False),
        _with_image,
        _PATHS,
        IMAGE,
        frames=3,
        uncond=_UNCOND,
    ),
    "hunyuan_skyreels": Network(
        lambda: _make(in_channels=8),
        lambda rows, generator: _inputs(rows, generator) | {"hidden_states": randn(generator, rows, 8, 3, 4, 4)},
        _PATHS,
        IMAGE,
        frames=3,
        uncond=_UNCOND,
    ),
    "framepack": Network(
        _framepack,
        _with_history,
        _PATHS,
        slice(0, 25),
        tables=("indices_latents", *(f"indices_latents_{name}" for name in ("clean", "history_2x", "history_4x"))),
        uncond=_UNCOND,
        xfail={"cost": "the network asks the mask of the text how long it is"},
    ),
    "hunyuan_video_15": Network(
        _make15, _inputs15, _PATHS15, IMAGE, frames=3, uncond=_UNCOND15, xfail={"cost": _UNCOUNTED15}
    ),
    "hunyuan_video_15_text_only": Network(
        _make15,
        lambda rows, generator: _inputs15(rows, generator, image=0.0),
        _PATHS15,
        IMAGE,
        frames=3,
        uncond=_UNCOND15,
        xfail={"cost": _UNCOUNTED15},
    ),
}
