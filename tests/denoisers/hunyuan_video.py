"""Networks of `pag.families.hunyuan_video`."""

from typing import Any

import torch
from diffusers import HunyuanVideoTransformer3DModel
from torch import Generator, Tensor

from tests.denoisers._network import Network, randn

TEXT = 5
IMAGE = slice(0, 12)
"""3 frames of 2×2 patches; the text follows."""


def _make(**config: Any) -> HunyuanVideoTransformer3DModel:
    tiny: dict[str, Any] = {
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
    return HunyuanVideoTransformer3DModel(**(tiny | config))


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


def _with_image(rows: int, generator: Generator) -> dict[str, Any]:
    inputs = _inputs(rows, generator) | {"hidden_states": randn(generator, rows, 9, 3, 4, 4)}
    del inputs["guidance"]
    return inputs


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_UNCOND = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")

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
}
