"""Networks of `pag.families.ltx`."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel
from torch import Generator, Tensor

from tests.denoisers._network import Network, randn

TEXT = 5
SOUND = 6


def _ltx() -> LTXVideoTransformer3DModel:
    return LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=3,
        caption_channels=16,
    )


def _mask(rows: int, generator: Generator) -> Tensor:
    lengths = torch.randint(2, TEXT + 1, (rows,), generator=generator)
    return (torch.arange(TEXT) < lengths[:, None]).float()


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 12, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": _mask(rows, generator),
        "num_frames": 3,
        "height": 2,
        "width": 2,
    }


def _conditioned(rows: int, generator: Generator) -> dict[str, Any]:
    """A timestep and coordinates of its own for each token; two tokens of another image come first."""
    arguments = _inputs(rows, generator)
    for name in ("num_frames", "height", "width"):
        del arguments[name]
    timestep = torch.full((rows, 14), 500.0)
    timestep[:, :2] = 0
    return arguments | {
        "hidden_states": randn(generator, rows, 14, 4),
        "timestep": timestep,
        "video_coords": randn(generator, rows, 3, 14) * 8,
    }


def _ltx2(**config: Any) -> Callable[[], LTX2VideoTransformer3DModel]:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "audio_in_channels": 4,
        "audio_out_channels": 4,
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 4,
        "audio_cross_attention_dim": 8,
        "num_layers": 3,
        "caption_channels": 16,
    }
    return lambda: LTX2VideoTransformer3DModel(**(tiny | config))


def _with_sound(rows: int, generator: Generator, video: int = 16, audio: int = 16) -> dict[str, Any]:
    mask = _mask(rows, generator)
    return _inputs(rows, generator) | {
        "encoder_hidden_states": randn(generator, rows, TEXT, video),
        "encoder_attention_mask": mask,
        "audio_hidden_states": randn(generator, rows, SOUND, 4),
        "audio_encoder_hidden_states": randn(generator, rows, TEXT, audio),
        "audio_encoder_attention_mask": mask,
        "audio_num_frames": SOUND,
    }


def _ltx23(rows: int, generator: Generator) -> dict[str, Any]:
    """A timestep per token, a mask between tokens, marked frames, and the noise level once more for the text."""
    timestep = torch.full((rows, 12), 500.0)
    timestep[:, :4] = 0
    return _with_sound(rows, generator, 16, 8) | {
        "timestep": timestep,
        "audio_timestep": torch.full((rows,), 500.0),
        "sigma": torch.full((rows,), 500.0),
        "audio_sigma": torch.full((rows,), 400.0),
        "use_cross_timestep": True,
        "video_self_attention_mask": torch.rand(rows, 12, 12, generator=generator),
        "video_keyframes_mask": (torch.arange(12) < 4).float()[:, None].repeat(rows, 1, 1),
    }


_SITES = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")
_SOUND_SITES = ("transformer_blocks.0.audio_attn1", *_SITES)
_UNCOND = ("encoder_hidden_states", "encoder_attention_mask")
_SOUND_UNCOND = (*_UNCOND, "audio_encoder_hidden_states", "audio_encoder_attention_mask")

NETWORKS = {
    "ltx": Network(_ltx, _inputs, _SITES, uncond=_UNCOND, frames=3),
    "ltx with given tokens": Network(_ltx, _conditioned, _SITES, uncond=_UNCOND),
    "ltx2": Network(_ltx2(), _with_sound, _SOUND_SITES, uncond=_SOUND_UNCOND, predictions=2, frames=3),
    "ltx2.3": Network(
        _ltx2(
            gated_attn=True,
            audio_gated_attn=True,
            cross_attn_mod=True,
            audio_cross_attn_mod=True,
            perturbed_attn=True,
            rope_type="split",
            use_prompt_embeddings=False,
            use_keyframes_abs_pos_embedding=True,
        ),
        _ltx23,
        _SOUND_SITES,
        uncond=_SOUND_UNCOND,
        predictions=2,
        frames=3,
    ),
}
