"""HunyuanVideo and what is built on it: joint attention of the video and the text behind it, two stacks of blocks."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import Convention, Family, before_text
from pag.families._sites import transformer_sites

TRUE_CFG = Convention(calls=("cond", "uncond"), switch="do_true_cfg", scale="true_cfg_scale")
"""Two calls a step, the prompt's first, if `true_cfg_scale` is above 1 and there is a negative prompt."""

SOURCE = "no published setting: the middle of the double blocks, by analogy with arXiv 2403.17377"


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
    sites=transformer_sites("transformer_blocks", "single_transformer_blocks", names=("double", "single")),
    example=example,
    layers=1 / 6,
    scale=3.0,
    source=SOURCE,
    trunk=("x_embedder", "time_text_embed", "context_embedder", "transformer_blocks", "single_transformer_blocks"),
    image=before_text,
    frames=frames,
    convention=TRUE_CFG,
)

FAMILIES = (HUNYUAN_VIDEO,)
