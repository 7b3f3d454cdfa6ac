"""Wan 2.1 and 2.2 and what is built on them: videos, with the text in attention of its own."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import text_enters_at, transformer_sites

TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""

SOURCE = "no published setting: the middle block, by analogy with arXiv 2403.17377"


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, channels, frames, height, width)."""
    return call["hidden_states"].shape[2] // config.patch_size[0]


def frames_first(config: Any, call: Mapping[str, Any]) -> int:
    """Frames of (rows, frames, channels, height, width), a token each in time."""
    return call["hidden_states"].shape[1]


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 81 frames of 832×480 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, 21, 60, 104, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
    }
    if config.image_dim is not None:
        # Of CLIP. Models that also know the last frame get both images, one after the other.
        both = config.pos_embed_seq_len
        shape = (rows, 257) if both is None else (2 * rows, both // 2)
        arguments["encoder_hidden_states_image"] = torch.empty(*shape, config.image_dim, device=device)
    return arguments


def _vace_example(model: Any, rows: int) -> dict[str, Any]:
    control = torch.empty(rows, model.config.vace_in_channels, 21, 60, 104, device=model.device)
    return example(model, rows) | {"control_hidden_states": control}


def _animate_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.motion_encoder_size
    return example(model, rows) | {
        "pose_hidden_states": torch.empty(rows, config.latent_channels, 20, 60, 104, device=device),
        "face_pixel_values": torch.empty(rows, 3, 77, size, size, device=device),
    }


def _anyflow_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 21, config.in_channels, 60, 104, device=device),
        "timestep": torch.ones(rows, 21, device=device),
        "r_timestep": torch.zeros(rows, 21, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
    }


def _far_example(model: Any, rows: int) -> dict[str, Any]:
    """The first chunk, of three latent frames."""
    config, device = model.config, model.device
    shape = (2, rows, config.num_attention_heads, 0, config.attention_head_dim)
    caches = {name: torch.empty(shape, device=device) for name in ("full_cache", "compressed_cache")}
    arguments = _anyflow_example(model, rows)
    for name in ("hidden_states", "timestep", "r_timestep"):
        arguments[name] = arguments[name][:, :3]
    return arguments | {
        "chunk_partition": [3],
        "kv_cache": dict.fromkeys(range(config.num_layers), caches),
        "kv_cache_flag": {"num_cached_chunks": 0, "is_cache_step": False},
    }


def _fills_cache(call: Mapping[str, Any]) -> bool:
    flag = call.get("kv_cache_flag")
    return flag is not None and flag["is_cache_step"]


WAN = Family(
    models=("WanTransformer3DModel", "SkyReelsV2Transformer3DModel", "ChronoEditTransformer3DModel"),
    sites=transformer_sites("blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("patch_embedding", "condition_embedder", "blocks"),
    row_arguments=(*ROWS, "encoder_hidden_states_image"),
    folded_arguments=("encoder_hidden_states_image",),
    frames=frames,
    convention=TWO_CALLS,
)

VACE = Family(
    models=("WanVACETransformer3DModel",),
    sites=transformer_sites("vace_blocks", "blocks", names=("vace", "")),
    example=_vace_example,
    layers=0.6,
    scale=3.0,
    source=SOURCE + " (the control branch, which runs first, is a third or a sixth of all blocks)",
    trunk=("patch_embedding", "vace_patch_embedding", "condition_embedder", "vace_blocks", "blocks"),
    row_arguments=(*ROWS, "encoder_hidden_states_image", "control_hidden_states"),
    frames=frames,
    convention=TWO_CALLS,
)

ANIMATE = Family(
    models=("WanAnimateTransformer3DModel",),
    sites=transformer_sites("blocks"),
    example=_animate_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    # The adapters run between the blocks, and share rows for as long as these do.
    trunk=(
        "patch_embedding",
        "pose_patch_embedding",
        "condition_embedder",
        "face_encoder",
        "face_adapter",
        "blocks",
    ),
    row_arguments=(*ROWS, "encoder_hidden_states_image", "pose_hidden_states", "face_pixel_values"),
    frames=frames,
    convention=TWO_CALLS,
)

ANYFLOW = Family(
    models=("AnyFlowTransformer3DModel",),
    sites=transformer_sites("blocks"),
    example=_anyflow_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("patch_embedding", "condition_embedder", "blocks"),
    text_entry=text_enters_at("blocks.0.attn2"),
    text_trunk=("condition_embedder",),
    trunk_arguments=("hidden_states", "timestep", "r_timestep"),
    row_arguments=(*ROWS, "r_timestep", "encoder_hidden_states_image"),
    frames=frames_first,
)

ANYFLOW_FAR = Family(
    models=("AnyFlowFARTransformer3DModel",),
    sites=transformer_sites("blocks"),
    example=_far_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("patch_embedding", "condition_embedder"),  # the blocks get keys and values of all rows
    row_arguments=(*ROWS, "r_timestep", "encoder_hidden_states_image"),
    paired_arguments=("kv_cache",),
    prepares=_fills_cache,
)

FAMILIES = (WAN, VACE, ANIMATE, ANYFLOW, ANYFLOW_FAR)
