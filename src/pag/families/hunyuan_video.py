"""HunyuanVideo and what is built on it: joint attention of the video and the text behind it, two stacks of blocks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family, before_text
from pag.families._sites import transformer_sites

TRUE_CFG = Convention(calls=("cond", "uncond"), switch="do_true_cfg", scale="true_cfg_scale")
"""Two calls a step, the prompt's first, if `true_cfg_scale` is above 1 and there is a negative prompt."""

_BLOCKS = ("transformer_blocks", "single_transformer_blocks")


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, channels, frames, height, width)."""
    return call["hidden_states"].shape[2] // config.patch_size_t


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 129 frames of 1280×720 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, 33, 90, 160, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.text_embed_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 256, device=device),
        "pooled_projections": torch.empty(rows, config.pooled_projection_dim, device=device),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.ones(rows, device=device)
    return arguments


HUNYUAN_VIDEO = Family(
    models=("HunyuanVideoTransformer3DModel",),
    sites=transformer_sites(*_BLOCKS, names=("double", "single")),
    example=example,
    layers=1 / 6,
    scale=3.0,
    source="no published setting: the middle of the double blocks, by analogy with arXiv 2403.17377",
    trunk=("x_embedder", "time_text_embed", "context_embedder", *_BLOCKS),
    image=before_text,
    frames=frames,
    convention=TRUE_CFG,
)


def _framepack_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    history = {"latents_clean": 2, "latents_history_2x": 2, "latents_history_4x": 16}
    given: dict[str, Any] = example(model, rows) | {
        "hidden_states": torch.empty(rows, config.in_channels, 9, 80, 80, device=device),
        "image_embeds": torch.empty(rows, 729, config.image_proj_dim, device=device),
        "indices_latents": torch.arange(9, device=device),
    }
    for name, count in history.items():
        given[name] = torch.empty(rows, config.in_channels, count, 80, 80, device=device)
        given[f"indices_{name}"] = torch.arange(count, device=device)
    return given


FRAMEPACK = replace(
    HUNYUAN_VIDEO,
    models=("HunyuanVideoFramepackTransformer3DModel",),
    example=_framepack_example,
    trunk=("x_embedder", "clean_x_embedder", "time_text_embed", "context_embedder", "image_projection", *_BLOCKS),
    row_arguments=(*ROWS, "image_embeds", "latents_clean", "latents_history_2x", "latents_history_4x"),
    frames=lambda config, call: 0,
)
"""The history of the video is packed ahead of what is denoised. Its tokens are the image too, fewer for old frames."""


def _example15(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 31, 30, 53, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 1000, config.text_embed_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 1000, device=device),
        "encoder_hidden_states_2": torch.empty(rows, 256, config.text_embed_2_dim, device=device),
        "encoder_attention_mask_2": torch.ones(rows, 256, device=device),
        "image_embeds": torch.zeros(rows, 729, config.image_embed_dim, device=device),
    }


HUNYUAN_VIDEO_15 = Family(
    models=("HunyuanVideo15Transformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_example15,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=(
        "x_embedder",
        "time_embed",
        "context_embedder",
        "context_embedder_2",
        "image_embedder",
        "transformer_blocks",
    ),
    row_arguments=(
        *ROWS,
        "timestep_r",
        "encoder_hidden_states_2",
        "encoder_attention_mask_2",
        "image_embeds",
    ),
    image=before_text,
    frames=frames,
    convention=Convention(calls=("cond", "uncond")),
)

FAMILIES = (HUNYUAN_VIDEO, FRAMEPACK, HUNYUAN_VIDEO_15)
