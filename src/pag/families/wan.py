"""Wan 2.1 and 2.2 and what is built on them: videos, with the text in attention of its own."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import transformer_sites

TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, channels, frames, height, width)."""
    return call["hidden_states"].shape[2] // config.patch_size[0]


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 81 frames of 832×480 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 21, 60, 104, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
    }


WAN = Family(
    models=("WanTransformer3DModel",),
    sites=transformer_sites("blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("patch_embedding", "condition_embedder", "blocks"),
    row_arguments=(*ROWS, "encoder_hidden_states_image"),
    frames=frames,
    convention=TWO_CALLS,
)

FAMILIES = (WAN,)
