"""Cosmos: videos of the physical world, with the text in attention of its own."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
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


def _video(attending: Attending) -> slice | None:
    """The video's tokens come first of those that are generated, which see the text, but not the other way round."""
    if attending.keys == attending.queries:
        return None
    return slice(0, attending.call["vision_sequence_indexes"].shape[0])


def _frames3(config: Any, call: Mapping[str, Any]) -> int:
    shapes = call["vision_token_shapes"]
    return shapes[0][0] if len(shapes) == 1 else 0


def _example3(model: Any, rows: int) -> dict[str, Any]:
    """A video of 189 frames of 1280×720 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    text, grid = 256, (48, 23, 40)
    count = math.prod(grid)
    height, width = (size * config.latent_patch_size for size in grid[1:])
    places = torch.arange(text, text + count, device=device)
    return {
        "input_ids": torch.zeros(text, dtype=torch.long, device=device),
        "text_indexes": torch.arange(text, device=device),
        "position_ids": torch.zeros(3, text + count, device=device),
        "und_len": text,
        "sequence_length": text + count,
        "vision_tokens": [torch.empty(1, config.latent_channel, grid[0], height, width, device=device)],
        "vision_token_shapes": [grid],
        "vision_sequence_indexes": places,
        "vision_mse_loss_indexes": places,
        "vision_timesteps": torch.ones(count, device=device),
        "vision_noisy_frame_indexes": [torch.arange(grid[0], device=device)],
    }


COSMOS3 = Family(
    models=("Cosmos3OmniTransformer",),
    sites=transformer_sites("layers"),
    example=_example3,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("layers",),
    sample="vision_tokens",
    timestep="vision_timesteps",
    image=_video,
    frames=_frames3,
    predictions=3,
    packed=True,
    convention=Convention(calls=("cond", "uncond")),
)
"""Text that is read causally, and a video (with sound or actions) that is generated, in one sequence."""

FAMILIES = (COSMOS, COSMOS3)
