"""Networks of `pag.families.wan`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import (
    AnyFlowTransformer3DModel,
    ChronoEditTransformer3DModel,
    SkyReelsV2Transformer3DModel,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
TEXT_BESIDE_IMAGE = 512  # which the attention processor takes for granted where it separates the two
IMAGE = 3

_TINY: dict[str, Any] = {
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
    "rope_max_seq_len": 64,
}
_IMAGE: dict[str, Any] = {"image_dim": 8, "added_kv_proj_dim": 24}


def _made(cls: Callable[..., Any], **config: Any) -> Callable[[], Any]:
    return lambda: cls(**(_TINY | config))


def _inputs(
    rows: int, generator: Generator, frames: int = 3, channels: int = 4, images: int = 0, text: int = TEXT
) -> dict[str, Any]:
    arguments = {
        "hidden_states": randn(generator, rows, channels, frames, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT_BESIDE_IMAGE if images else text, 16),
    }
    if images:
        arguments["encoder_hidden_states_image"] = randn(generator, images * rows, IMAGE, 8)
    return arguments


def _of_tokens(rows: int, generator: Generator) -> dict[str, Any]:
    """A timestep for each token; the first frame is given."""
    timestep = torch.full((rows, 12), 500.0)
    timestep[:, :4] = 0
    return _inputs(rows, generator) | {"timestep": timestep}


def _of_frames(rows: int, generator: Generator) -> dict[str, Any]:
    """A timestep for each frame."""
    timestep = torch.tensor([[100.0, 300.0, 500.0]]).repeat(rows, 1)
    return _inputs(rows, generator) | {"timestep": timestep, "enable_diffusion_forcing": True}


def _vace(rows: int, generator: Generator) -> dict[str, Any]:
    return _inputs(rows, generator) | {
        "control_hidden_states": randn(generator, rows, 72, 3, 4, 4),
        "control_hidden_states_scale": torch.tensor([1.0, 0.5]),
    }


def _animate(rows: int, generator: Generator) -> dict[str, Any]:
    # One latent of the character and two of the five frames of video.
    return _inputs(rows, generator, channels=12, images=1) | {
        "pose_hidden_states": randn(generator, rows, 4, 2, 4, 4),
        "face_pixel_values": randn(generator, rows, 3, 5, 16, 16),
    }


def _anyflow(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 3, 4, 4, 4),
        "timestep": torch.tensor([[0.0, 500.0, 500.0]]).repeat(rows, 1),
        "r_timestep": torch.full((rows, 3), 250.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
    }


_SITES = ("blocks.0.attn1", "blocks.2.attn1")

NETWORKS = {
    "wan": Network(_made(WanTransformer3DModel), _inputs, _SITES, frames=3),
    "wan with patches of two frames": Network(
        _made(WanTransformer3DModel, patch_size=(2, 2, 2)), partial(_inputs, frames=4), ("blocks.1.attn1",), frames=2
    ),
    "wan with a timestep per token": Network(_made(WanTransformer3DModel), _of_tokens, _SITES, frames=3),
    "wan from an image": Network(
        _made(WanTransformer3DModel, in_channels=12, **_IMAGE),
        partial(_inputs, channels=12, images=1),
        _SITES,
        frames=3,
    ),
    "wan between two images": Network(
        _made(WanTransformer3DModel, in_channels=12, pos_embed_seq_len=2 * IMAGE, **_IMAGE),
        partial(_inputs, channels=12, images=2),
        _SITES,
        frames=3,
    ),
    "lucy edit": Network(
        _made(WanTransformer3DModel, in_channels=8), partial(_inputs, channels=8), ("blocks.1.attn1",), frames=3
    ),
    "wan vace": Network(
        _made(WanVACETransformer3DModel, vace_layers=[0, 2], vace_in_channels=72),
        _vace,
        ("vace_blocks.0.attn1", "vace_blocks.1.attn1", *_SITES),
        tables=("control_hidden_states_scale",),
        frames=3,
    ),
    "wan animate": Network(
        _made(
            WanAnimateTransformer3DModel,
            num_layers=4,
            in_channels=12,
            latent_channels=4,
            inject_face_latents_blocks=2,
            motion_encoder_channel_sizes={"4": 4, "8": 4, "16": 4},
            motion_encoder_size=16,
            motion_style_dim=4,
            motion_dim=2,
            motion_encoder_dim=4,
            face_encoder_hidden_dim=4,
            face_encoder_num_heads=2,
            **_IMAGE,
        ),
        _animate,
        _SITES,
        frames=3,
        uncond=("encoder_hidden_states", "face_pixel_values"),
    ),
    "skyreels": Network(_made(SkyReelsV2Transformer3DModel), _inputs, _SITES, frames=3),
    "skyreels with a timestep per frame": Network(_made(SkyReelsV2Transformer3DModel), _of_frames, _SITES, frames=3),
    "skyreels from an image": Network(
        _made(SkyReelsV2Transformer3DModel, in_channels=12, **_IMAGE),
        partial(_inputs, channels=12, images=1),
        _SITES,
        frames=3,
    ),
    "skyreels in causal blocks": Network(
        _made(SkyReelsV2Transformer3DModel, num_frame_per_block=3), partial(_inputs, frames=6), _SITES, frames=6
    ),
    "chronoedit": Network(
        _made(ChronoEditTransformer3DModel, in_channels=12, **_IMAGE),
        partial(_inputs, frames=2, channels=12, images=1),
        _SITES,
        frames=2,
    ),
    "anyflow": Network(_made(AnyFlowTransformer3DModel), _anyflow, _SITES, frames=3),
}
