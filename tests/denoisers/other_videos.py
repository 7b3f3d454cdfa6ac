"""Networks of `pag.families.other_videos`."""

from typing import Any

import torch
from diffusers import (
    EasyAnimateTransformer3DModel,
    HeliosTransformer3DModel,
    MiniMaxH3Transformer3DModel,
    MotifVideoTransformer3DModel,
)
from torch import Generator

from tests.denoisers._network import Network, randn
from tests.denoisers.hunyuan_video import masks

TEXT = 5


def _easyanimate(**config: Any) -> EasyAnimateTransformer3DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "patch_size": 2,
        "num_layers": 3,
        "mmdit_layers": 2,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
    }
    return EasyAnimateTransformer3DModel(**(tiny | config))


def _easyanimate_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
    }


def _masked(rows: int, generator: Generator) -> dict[str, Any]:
    return _easyanimate_inputs(rows, generator) | {"inpaint_latents": randn(generator, rows, 5, 3, 4, 4)}


def _controlled(rows: int, generator: Generator) -> dict[str, Any]:
    return _easyanimate_inputs(rows, generator) | {
        "control_latents": randn(generator, rows, 8, 3, 4, 4),
        "encoder_hidden_states_t5": randn(generator, rows, 2, 8),
    }


def _helios(**config: Any) -> HeliosTransformer3DModel:
    tiny: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 3,
        "rope_dim": (4, 4, 4),
    }
    return HeliosTransformer3DModel(**(tiny | config))


def _helios_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    given: dict[str, Any] = {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 500),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "indices_hidden_states": torch.arange(20, 23)[None],
    }
    for name, count, first in (("short", 2, 18), ("mid", 2, 16), ("long", 16, 0)):
        given[f"latents_history_{name}"] = randn(generator, rows, 4, count, 4, 4)
        given[f"indices_latents_history_{name}"] = torch.arange(first, first + count)[None]
    return given


_INDICES = ("hidden_states", *(f"latents_history_{name}" for name in ("short", "mid", "long")))


def _one_index_for_each_row(rows: int, generator: Generator) -> dict[str, Any]:
    given = _helios_inputs(rows, generator)
    return given | {f"indices_{name}": given[f"indices_{name}"].repeat(rows, 1) for name in _INDICES}


def _motif(**config: Any) -> MotifVideoTransformer3DModel:
    tiny: dict[str, Any] = {
        "in_channels": 9,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 2,
        "num_single_layers": 3,
        "num_decoder_layers": 1,
        "text_embed_dim": 16,
        "image_embed_dim": 12,
        "rope_axes_dim": (2, 4, 4),
    }
    return MotifVideoTransformer3DModel(**(tiny | config))


def _motif_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 9, 3, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": masks(rows, generator),
    }


def _motif_with_image(rows: int, generator: Generator) -> dict[str, Any]:
    return _motif_inputs(rows, generator) | {"image_embeds": randn(generator, rows, 4, 12)}


def _minimax() -> MiniMaxH3Transformer3DModel:
    return MiniMaxH3Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        hidden_size=24,
        num_layers=3,
        num_refiner_layers=1,
        ffn_dim=32,
        in_channels=4,
        audio_in_channels=6,
        text_dim=16,
        freq_dim=16,
        time_embed_hidden_dim=16,
        time_embed_dim=16,
        rope_freq_dim=2,
    )


def _minimax_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    """Text, a given frame, sound, and a video of 2 frames: two noise levels, as many as there may be rows."""
    places = torch.arange(TEXT + 4 + 6 + 8)
    text, given, sound, video = places.split([TEXT, 4, 6, 8])
    noisy, tags = torch.ones_like(places), torch.zeros_like(places)
    noisy[given], tags[text], tags[sound] = 0, 1, 2
    return {
        "hidden_states": randn(generator, rows, 12, 16),
        "audio_hidden_states": randn(generator, rows, 6, 6),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.tensor([1.0, 0.5]),
        "timestep_indices": noisy,
        "token_tags": tags,
        "position_ids": randn(generator, len(places), 3).abs(),
        "text_indices": text,
        "audio_indices": sound,
        "video_indices": torch.cat([given, video]),
    }


_LAYOUT = (
    *("timestep", "timestep_indices", "token_tags", "position_ids"),
    *("text_indices", "audio_indices", "video_indices"),
)
_EASYANIMATE_PATHS = ("transformer_blocks.1.attn1", "transformer_blocks.2.attn1")
_HELIOS_PATHS = ("blocks.0.attn1", "blocks.2.attn1")
_MOTIF_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.1.attn", "single_transformer_blocks.2.attn")
_MOTIF_UNCOND = ("encoder_hidden_states", "encoder_attention_mask")

NETWORKS = {
    "easyanimate": Network(_easyanimate, _easyanimate_inputs, _EASYANIMATE_PATHS, slice(TEXT, TEXT + 12), frames=3),
    "easyanimate_inpaint": Network(
        lambda: _easyanimate(in_channels=9), _masked, _EASYANIMATE_PATHS, slice(TEXT, TEXT + 12), frames=3
    ),
    "easyanimate_control": Network(
        lambda: _easyanimate(in_channels=12, text_embed_dim_t5=8, after_norm=True),
        _controlled,
        _EASYANIMATE_PATHS,
        slice(TEXT + 2, TEXT + 14),
        frames=3,
        uncond=("encoder_hidden_states", "encoder_hidden_states_t5"),
    ),
    "helios": Network(
        _helios,
        _helios_inputs,
        _HELIOS_PATHS,
        tables=tuple(f"indices_{name}" for name in _INDICES),
    ),
    "helios_amplified_history": Network(
        lambda: _helios(is_amplify_history=True, zero_history_timestep=False, guidance_cross_attn=False),
        _one_index_for_each_row,
        _HELIOS_PATHS,
    ),
    "motif_video": Network(_motif, _motif_inputs, _MOTIF_PATHS, slice(0, 12), frames=3, uncond=_MOTIF_UNCOND),
    "motif_video_with_image": Network(
        lambda: _motif(enable_text_cross_attention_dual=True, enable_text_cross_attention_single=True),
        _motif_with_image,
        _MOTIF_PATHS,
        slice(0, 12),
        frames=3,
        uncond=_MOTIF_UNCOND,
    ),
    "minimax_h3": Network(
        _minimax,
        _minimax_inputs,
        ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
        slice(TEXT + 10, TEXT + 18),
        tables=_LAYOUT,
        predictions=2,
    ),
}
