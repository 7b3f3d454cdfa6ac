"""LTX-Video and LTX-2: videos, of LTX-2 with sound, with the text in attention of its own."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import projected_text, text_enters_at, transformer_sites


def frames(config: Any, call: Mapping[str, Any]) -> int:
    """Patches in time, or 0 if tokens of other images follow, or the grid is told by coordinates alone."""
    grid = [call.get(name) or 0 for name in ("num_frames", "height", "width")]
    return grid[0] if grid[0] * grid[1] * grid[2] == call["hidden_states"].shape[1] else 0


def _example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for a video of 161 frames of 704×512 pixels, with 128 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 21 * 16 * 22, config.in_channels, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 128, config.caption_channels, device=device),
        "encoder_attention_mask": torch.ones(rows, 128, device=device),
        "num_frames": 21,
        "height": 16,
        "width": 22,
    }


def _sound_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for 121 frames of 768×512 pixels, 5 seconds of sound, and 1024 text tokens."""
    config, device = model.config, model.device
    text = {name: torch.empty(rows, 1024, width, device=device) for name, width in _text_widths(config).items()}
    return text | {
        "hidden_states": torch.empty(rows, 16 * 16 * 24, config.in_channels, device=device),
        "audio_hidden_states": torch.empty(rows, 126, config.audio_in_channels, device=device),
        "timestep": torch.ones(rows, device=device),
        "sigma": torch.ones(rows, device=device),
        "encoder_attention_mask": torch.ones(rows, 1024, device=device),
        "audio_encoder_attention_mask": torch.ones(rows, 1024, device=device),
        "num_frames": 16,
        "height": 16,
        "width": 24,
        "audio_num_frames": 126,
    }


def _text_widths(config: Any) -> dict[str, int]:
    if config.use_prompt_embeddings:
        return dict.fromkeys(("encoder_hidden_states", "audio_encoder_hidden_states"), config.caption_channels)
    return {
        "encoder_hidden_states": config.cross_attention_dim,
        "audio_encoder_hidden_states": config.audio_cross_attention_dim,
    }


LTX = Family(
    models=("LTXVideoTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_example,
    layers=0.68,
    scale=1.0,
    source="spatio-temporal guidance of LTX-Video 2B, arXiv 2411.18664, which does the same: block 19 of 28, scale 1",
    trunk=("proj_in", "time_embed", "caption_projection", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection",),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep", "video_coords"),
    row_arguments=(*ROWS, "video_coords"),
    row_tables=("image_rotary_emb",),
    frames=frames,
)

LTX2 = Family(
    models=("LTX2VideoTransformer3DModel",),
    sites=transformer_sites("transformer_blocks", ends=r"\.(audio_)?attn1$"),
    example=_sound_example,
    layers=0.59,
    scale=1.0,
    source="LTX-2's own spatio-temporal guidance, arXiv 2411.18664, which does the same: block 28 of 48, scale 1",
    trunk=(
        "proj_in",
        "audio_proj_in",
        "time_embed",
        "audio_time_embed",
        "prompt_adaln",
        "audio_prompt_adaln",
        "av_cross_attn_video_scale_shift",
        "av_cross_attn_video_a2v_gate",
        "av_cross_attn_audio_scale_shift",
        "av_cross_attn_audio_v2a_gate",
        "caption_projection",
        "audio_caption_projection",
        "transformer_blocks",
    ),
    row_arguments=(
        *ROWS,
        "audio_hidden_states",
        "audio_encoder_hidden_states",
        "audio_timestep",
        "sigma",
        "audio_sigma",
        "audio_encoder_attention_mask",
        "video_coords",
        "audio_coords",
        "perturbation_mask",
        "video_self_attention_mask",
        "video_keyframes_mask",
    ),
    row_tables=(
        "video_rotary_emb",
        "audio_rotary_emb",
        "ca_video_rotary_emb",
        "ca_audio_rotary_emb",
        "query_rotary_emb",
        "key_rotary_emb",
    ),
    frames=frames,
    predictions=2,
    aside=("spatio_temporal_guidance_blocks", "isolate_modalities"),
    convention=Convention(formula=None, norm=True, scale=("guidance_scale", "audio_guidance_scale")),
    conventions={name: Convention(groups=("cond",)) for name in ("LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline")},
)

FAMILIES = (LTX, LTX2)
