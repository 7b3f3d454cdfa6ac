"""Sana and what is built on it: linear attention, with the text in attention of its own."""

from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import projected_text, text_enters_at, transformer_sites
from pag.families.wan import SOURCE, frames
from pag.layers import Site

NO_CFG = Convention(("cond",))
"""The scale of classifier-free guidance is an input of the network."""


def _sana_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size
    arguments = {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(rows, 300, config.caption_channels, device=device),
        "timestep": torch.ones(rows, device=device),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.ones(rows, device=device)
    return arguments


SANA = Family(
    models=("SanaTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_sana_example,
    layers=0.4,
    scale=3.0,
    source="the example of diffusers' SanaPAGPipeline: block 8 of 20",
    trunk=("patch_embed", "caption_projection", "caption_norm", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection", "caption_norm"),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep", "guidance", "attention_mask"),
    row_arguments=(*ROWS, "controlnet_block_samples"),
    variance=lambda model: model.config.out_channels == 2 * model.config.in_channels,
    conventions={"SanaSprintPipeline": NO_CFG, "SanaSprintImg2ImgPipeline": NO_CFG},
)


def _video_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 21, 60, 104, device=device),
        "encoder_hidden_states": torch.empty(rows, 300, config.caption_channels, device=device),
        "timestep": torch.ones(rows, device=device),
    }


SANA_VIDEO = Family(
    models=("SanaVideoTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_video_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("patch_embedding", "caption_projection", "caption_norm", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection", "caption_norm"),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep", "guidance", "attention_mask"),
    row_arguments=(*ROWS, "controlnet_block_samples"),
    frames=frames,
    variance=lambda model: model.config.out_channels == 2 * model.config.in_channels,
)


def _world_sites(model: Any) -> tuple[Site, ...]:
    """Blocks with softmax attention. The others have a recurrence over time, which is no map of tokens to tokens."""
    found = [(index, block.attn) for index, block in enumerate(model.blocks) if not hasattr(block.attn, "conv_k")]
    return tuple(
        Site(f"blocks.{index}.attn", "", "", attn.heads, attn.heads * attn.dim, str(index)) for index, attn in found
    )


def _world_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    camera = torch.cat([torch.eye(4, device=device).flatten(), torch.ones(4, device=device)])
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 21, 22, 40, device=device),
        "timestep": torch.ones(rows, 1, 21, device=device),
        "encoder_hidden_states": torch.empty(rows, 1, 300, config.caption_channels, device=device),
        "mask": torch.ones(rows, 300, device=device),
        "camera_conditions": camera.expand(rows, 21, 20),
        "chunk_plucker": torch.empty(rows, config.chunk_plucker_channels, 21, 22, 40, device=device),
    }


SANA_WM = Family(
    models=("SanaWMTransformer3DModel",),
    sites=_world_sites,
    example=_world_example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle one of the blocks with softmax attention",
    trunk=("x_embedder", "blocks"),
    row_arguments=(*ROWS, "mask", "camera_conditions", "chunk_plucker", "raymats", "frame_valid_mask"),
    frames=frames,
)

FAMILIES = (SANA, SANA_VIDEO, SANA_WM)
