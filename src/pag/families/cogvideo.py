"""CogVideoX and Mochi: videos, with joint attention of the image's and the text's tokens."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family, after_text
from pag.families._sites import transformer_sites


def _cog_frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, of (rows, frames, channels, height, width)."""
    return call["hidden_states"].shape[1] // (config.patch_size_t or 1)


def _cog_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of the size that the configuration tells, with all text tokens."""
    config, device = model.config, model.device
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    span = config.patch_size_t or 1
    frames = -(-frames // span)
    height, width = config.sample_height, config.sample_width
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, frames * span, config.in_channels, height, width, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, config.max_text_seq_length, config.text_embed_dim, device=device),
    }
    if config.use_rotary_positional_embeddings:
        tokens = frames * (height // config.patch_size) * (width // config.patch_size)
        table = torch.empty(tokens, config.attention_head_dim, device=device)
        arguments["image_rotary_emb"] = (table, table)
    if config.ofs_embed_dim:
        arguments["ofs"] = torch.ones(1, device=device)
    return arguments


def _mochi_image(attending: Attending) -> slice:
    """The text comes last, without its padding, which differs from row to row."""
    return slice(0, attending.inputs["hidden_states"].shape[1])


def _mochi_frames(config: Any, call: Mapping[str, Any]) -> int:
    """Frames of (rows, channels, frames, height, width)."""
    return call["hidden_states"].shape[2]


def _mochi_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 85 frames of 848×480 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 15, 60, 106, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.text_embed_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 256, device=device),
    }


COGVIDEOX = Family(
    models=("CogVideoXTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_cog_example,
    layers=0.72,
    scale=3.0,
    source="the code of arXiv 2411.18664 for CogVideoX-5b: block 30 of 42 (there with scale 4, and rescaled)",
    trunk=("time_embedding", "patch_embed", "transformer_blocks"),
    row_arguments=(*ROWS, "timestep_cond"),
    image=after_text,
    frames=_cog_frames,
    # Dynamic guidance sets the scale after the call.
    convention=Convention(formula=None),
)

MOCHI = Family(
    models=("MochiTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_mochi_example,
    layers=0.71,
    scale=1.0,
    source="the code of arXiv 2411.18664, which skips block 34 of 48 as a whole, at scale 1",
    trunk=("time_embed", "patch_embed", "transformer_blocks"),
    image=_mochi_image,
    frames=_mochi_frames,
)

FAMILIES = (COGVIDEOX, MOCHI)
