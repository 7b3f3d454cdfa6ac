"""Cosmos: videos of the physical world, with the text in attention of its own."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import transformer_sites

TWO_CALLS = Convention(calls=("cond", "uncond"), formula=None)
"""Two calls a step, the prompt's first. They are combined as `c + g·(c − u)`, which is CFG at the scale `1 + g`."""


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, channels, frames, height, width)."""
    return call["hidden_states"].shape[2] // config.patch_size[0]


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 121 frames of 1280×704 pixels, with T5's 512 text tokens."""
    config, device = model.config, model.device
    sizes = [min(size, largest) for size, largest in zip((16, 88, 160), config.max_size, strict=True)]
    width = config.crossattn_proj_in_channels if config.use_crossattn_projection else config.text_embed_dim
    text: Any = torch.empty(rows, 512, width, device=device)
    if config.img_context_dim_in:
        text = text, torch.empty(rows, config.img_context_num_tokens, config.img_context_dim_in, device=device)
    return {
        "hidden_states": torch.empty(rows, config.in_channels, *sizes, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": text,
        "padding_mask": torch.zeros(1, 1, 704, 1280, device=device),
    }


COSMOS = Family(
    models=("CosmosTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=(
        "patch_embed",
        "learnable_pos_embed",
        "time_embed",
        "crossattn_proj",
        "img_context_proj",
        "transformer_blocks",
    ),
    row_arguments=(*ROWS, "condition_mask", "block_controlnet_hidden_states"),
    row_tables=("extra_pos_emb",),
    frames=frames,
    convention=TWO_CALLS,
)

FAMILIES = (COSMOS,)
