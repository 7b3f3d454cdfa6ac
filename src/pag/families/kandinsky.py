"""Kandinsky 5 and later: images and videos, with the text in attention of its own."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import transformer_sites

TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""

_MIDDLE = "no published setting: the middle block, by analogy with arXiv 2403.17377"


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, frames, height, width, channels); 0 where attention is sparse."""
    return 0 if call.get("sparse_params") else call["hidden_states"].shape[1] // config.patch_size[0]


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 121 frames of 768×512 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    channels = 2 * config.in_visual_dim + 1 if config.visual_cond else config.in_visual_dim
    return {
        "hidden_states": torch.empty(rows, 31, 64, 96, channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.in_text_dim, device=device),
        "pooled_projections": torch.empty(rows, config.in_text_dim2, device=device),
        "timestep": torch.ones(rows, device=device),
        "visual_rope_pos": [torch.arange(size, device=device) for size in (31, 32, 48)],
        "text_rope_pos": torch.arange(512, device=device),
    }


KANDINSKY5 = Family(
    models=("Kandinsky5Transformer3DModel",),
    sites=transformer_sites("visual_transformer_blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    trunk=(
        "text_embeddings",
        "time_embeddings",
        "pooled_text_embeddings",
        "visual_embeddings",
        "text_transformer_blocks",
        "visual_transformer_blocks",
    ),
    row_tables=("rope",),
    tables=("sparse_params",),
    frames=frames,
    convention=TWO_CALLS,
)


def _example6(model: Any, rows: int) -> dict[str, Any]:
    """A video of 121 frames of 768×512 pixels with its sound, and 512 text tokens."""
    config, device = model.config, model.device
    channels = 2 * config.in_visual_dim + 1 if config.visual_cond else config.in_visual_dim
    return {
        "hidden_states": torch.empty(rows, 31, 64, 96, channels, device=device),
        "audio_hidden_states": torch.empty(rows, 218, config.in_audio_dim, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.in_text_dim, device=device),
        "pooled_projections": torch.empty(rows, config.in_text_dim2, device=device),
        "timestep": torch.ones(rows, device=device),
    }


_EMBEDDINGS6 = ("text_embeddings", "time_embeddings", "pooled_text_embeddings", "text_transformer_blocks")

KANDINSKY6 = Family(
    models=("Kandinsky6Transformer3DModel",),
    sites=transformer_sites("visual_transformer_blocks", ends=r"\.video_dec_block\.self_attention$"),
    example=_example6,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    trunk=(
        *(f"{kind}_{name}" for kind in ("video", "audio") for name in _EMBEDDINGS6),
        "visual_embeddings",
        "audio_embeddings",
        "visual_transformer_blocks",
    ),
    row_arguments=(*ROWS, "audio_hidden_states", "visual_token_type_ids"),
    frames=frames,
    predictions=2,
    convention=TWO_CALLS,
)
"""Video and audio at once: the attention of the video is perturbed, and both are guided by what that does to them."""


def _example_sr(model: Any, rows: int) -> dict[str, Any]:
    """A tile of 121 frames of 768×512 pixels."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 31, 32, 48, 2 * config.in_visual_dim + 1, device=device),
        "timestep": torch.ones(rows, device=device),
    }


KANDINSKY6_SR = Family(
    models=("Kandinsky6SRTransformer3DModel",),
    sites=transformer_sites("visual_transformer_blocks"),
    example=_example_sr,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    trunk=("time_embeddings", "visual_embeddings", "visual_transformer_blocks"),
    tables=("sparse_params",),
    frames=lambda config, call: 0,
    convention=Convention(groups=("cond",)),
)

FAMILIES = (KANDINSKY5, KANDINSKY6, KANDINSKY6_SR)
