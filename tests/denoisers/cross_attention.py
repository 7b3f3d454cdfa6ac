"""Networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import HunyuanDiT2DModel, PixArtTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn


def pixart(**config: Any) -> PixArtTransformer2DModel:
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
    lengths = torch.randint(2, 6, (rows, 1), generator=generator)
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "encoder_attention_mask": (torch.arange(5) < lengths).long(),
        "timestep": torch.full((rows,), 500.0),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def _sized_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    sizes = {"resolution": torch.full((rows, 2), 64.0), "aspect_ratio": torch.ones(rows, 1)}
    return _pixart_inputs(rows, generator) | {"added_cond_kwargs": sizes}


def hunyuan(**config: Any) -> HunyuanDiT2DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "patch_size": 2,
        "sample_size": 8,
        "hidden_size": 16,
        "num_layers": 4,
        "mlp_ratio": 2.0,
        "cross_attention_dim": 16,
        "cross_attention_dim_t5": 16,
        "pooled_projection_dim": 16,
        "text_len": 5,
        "text_len_t5": 4,
    }
    return HunyuanDiT2DModel(**(tiny | config))


def _hunyuan_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.randint(2, 5, (rows, 1), generator=generator)
    angles = randn(generator, 16, 8)
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "text_embedding_mask": (torch.arange(5) < lengths).long(),
        "encoder_hidden_states_t5": randn(generator, rows, 4, 16),
        "text_embedding_mask_t5": (torch.arange(4) < lengths).long(),
        "image_meta_size": torch.full((rows, 6), 64.0),
        "style": torch.zeros(rows, dtype=torch.long),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }


_HUNYUAN_TEXT = (
    "encoder_hidden_states",
    "text_embedding_mask",
    "encoder_hidden_states_t5",
    "text_embedding_mask_t5",
)
_HUNYUAN_BLOCKS = ("blocks.0.attn1", "blocks.3.attn1")

_TEXT = ("encoder_hidden_states", "encoder_attention_mask")
_BLOCKS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")

NETWORKS = {
    "pixart": Network(pixart, _pixart_inputs, _BLOCKS, variance=True, uncond=_TEXT),
    "pixart: sizes": Network(
        lambda: pixart(
            sample_size=128,
            attention_head_dim=12,
            cross_attention_dim=24,
            out_channels=4,
            use_additional_conditions=True,
        ),
        _sized_inputs,
        _BLOCKS,
        uncond=_TEXT,
    ),
    "hunyuan dit": Network(
        hunyuan,
        _hunyuan_inputs,
        _HUNYUAN_BLOCKS,
        tables=("image_rotary_emb",),
        uncond=_HUNYUAN_TEXT,
        variance=True,
    ),
    "hunyuan dit 1.2": Network(
        lambda: hunyuan(use_style_cond_and_image_meta_size=False, learn_sigma=False),
        _hunyuan_inputs,
        _HUNYUAN_BLOCKS,
        tables=("image_rotary_emb",),
        uncond=_HUNYUAN_TEXT,
    ),
}
