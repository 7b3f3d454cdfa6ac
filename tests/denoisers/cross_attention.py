"""Networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import (
    AllegroTransformer3DModel,
    HunyuanDiT2DModel,
    LatteTransformer3DModel,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    PixArtTransformer2DModel,
)
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


def _lumina(**config: Any) -> LuminaNextDiT2DModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "hidden_size": 32,
        "num_layers": 3,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "multiple_of": 16,
        "cross_attention_dim": 16,
    }
    return LuminaNextDiT2DModel(**(tiny | config))


def _lumina_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    text = _pixart_inputs(rows, generator)
    return {
        "hidden_states": text["hidden_states"],
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": text["encoder_hidden_states"],
        "encoder_mask": text["encoder_attention_mask"],
        "image_rotary_emb": torch.polar(torch.ones(4, 4, 4), randn(generator, 4, 4, 4)),
        "cross_attention_kwargs": {"base_sequence_length": 16},
    }


def _lumina2(**config: Any) -> Lumina2Transformer2DModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "hidden_size": 24,
        "num_layers": 2,
        "num_refiner_layers": 1,
        "num_attention_heads": 2,
        "num_kv_heads": 1,
        "multiple_of": 16,
        "axes_dim_rope": (4, 4, 4),
        "axes_lens": (32, 16, 16),
        "cap_feat_dim": 16,
    }
    return Lumina2Transformer2DModel(**(tiny | config))


def _lumina2_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.tensor([5, 3])[:rows, None]
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "encoder_attention_mask": (torch.arange(5) < lengths).long(),
    }


def _lumina2_equal_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _lumina2_inputs(rows, generator) | {"encoder_attention_mask": torch.ones(rows, 5, dtype=torch.long)}


def _latte(**config: Any) -> LatteTransformer3DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 2,
        "cross_attention_dim": 16,
        "attention_bias": True,
        "sample_size": 4,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "caption_channels": 16,
        "video_length": 3,
    }
    return LatteTransformer3DModel(**(tiny | config))


def _latte_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 500),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
    }


def _allegro(**config: Any) -> AllegroTransformer3DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 3,
        "cross_attention_dim": 24,
        "sample_height": 4,
        "sample_width": 4,
        "sample_frames": 3,
        "caption_channels": 16,
    }
    return AllegroTransformer3DModel(**(tiny | config))


def _allegro_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    text = _pixart_inputs(rows, generator)
    angles = [randn(generator, size, 4) for size in (3, 2, 2)]
    positions = torch.cartesian_prod(*(torch.arange(size) for size in (3, 2, 2)))
    return _latte_inputs(rows, generator) | {
        "encoder_attention_mask": text["encoder_attention_mask"],
        "image_rotary_emb": (
            [(angle.cos(), angle.sin()) for angle in angles],
            [axis[None] for axis in positions.unbind(1)],
        ),
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
    "lumina next": Network(
        _lumina,
        _lumina_inputs,
        ("layers.0.attn1", "layers.2.attn1"),
        tables=("image_rotary_emb", "cross_attention_kwargs"),
        uncond=("encoder_hidden_states", "encoder_mask"),
        variance=True,
    ),
    "lumina 2": Network(
        _lumina2,
        _lumina2_inputs,
        ("noise_refiner.0.attn", "layers.0.attn", "layers.1.attn"),
        {
            "noise_refiner.0.attn": None,
            "layers.0.attn": (slice(5, 21), slice(3, 19)),
            "layers.1.attn": (slice(5, 21), slice(3, 19)),
        },
        xfail={"cost": "the network asks its mask how long the text is"},
    ),
    "lumina 2: texts of one length": Network(
        _lumina2,
        _lumina2_equal_inputs,
        ("layers.1.attn",),
        slice(5, 21),
        xfail={"cost": "the network asks its mask how long the text is"},
    ),
    "latte": Network(
        _latte,
        _latte_inputs,
        ("transformer_blocks.0.attn1", "temporal_transformer_blocks.0.attn1", "transformer_blocks.1.attn1"),
        variance=True,
    ),
    "allegro": Network(_allegro, _allegro_inputs, _BLOCKS, tables=("image_rotary_emb",), frames=3, uncond=_TEXT),
}
