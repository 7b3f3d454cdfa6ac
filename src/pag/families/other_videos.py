"""Videos: EasyAnimate, Helios, Motif-Video and MiniMax-H3."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family, after_text, before_text
from pag.families._sites import transformer_sites

TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""


def _zero_star(pipe: Any) -> str | None:
    if not pipe.config.get("is_cfg_zero_star"):
        return None
    return (
        "CFG-Zero* scales the negative prompt's prediction by a number that depends on both, so no change of theirs "
        "adds PAG to the result. Switch it off by `pipe.register_to_config(is_cfg_zero_star=False)`, or pass "
        "`guidance_scale=1.0`"
    )


_MIDDLE = "no published setting: the middle block, by analogy with arXiv 2403.17377"


def _frames(config: Any, call: Mapping[str, Any]) -> int:
    return call["hidden_states"].shape[2]


def _easyanimate_example(model: Any, rows: int) -> dict[str, Any]:
    """A video of 49 frames of 512×512 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.out_channels, 13, 64, 64, device=device),
        "inpaint_latents": torch.empty(rows, config.in_channels - config.out_channels, 13, 64, 64, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.text_embed_dim, device=device),
    }


EASYANIMATE = Family(
    models=("EasyAnimateTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_easyanimate_example,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    trunk=("time_embedding", "proj", "text_proj", "text_proj_t5", "transformer_blocks"),
    row_arguments=(*ROWS, "timestep_cond", "encoder_hidden_states_t5", "inpaint_latents", "control_latents"),
    image=after_text,
    frames=_frames,
)


_HISTORY = {"latents_history_short": 2, "latents_history_mid": 2, "latents_history_long": 16}


def _helios_example(model: Any, rows: int) -> dict[str, Any]:
    """Nine latent frames of 640×384 pixels after a history of 19, with 512 text tokens."""
    config, device = model.config, model.device
    given: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, 9, 48, 80, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
        "indices_hidden_states": torch.arange(9, device=device)[None],
    }
    for name, count in _HISTORY.items():
        given[name] = torch.empty(rows, config.in_channels, count, 48, 80, device=device)
        given[f"indices_{name}"] = torch.arange(count, device=device)[None]
    return given


HELIOS = Family(
    models=("HeliosTransformer3DModel",),
    sites=transformer_sites("blocks"),
    example=_helios_example,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    # Not the embedding of the timestep: it also gets that of the history, which is one for all rows.
    trunk=("patch_embedding", "patch_short", "patch_mid", "patch_long", "blocks"),
    row_arguments=(*ROWS, "indices_hidden_states", *_HISTORY, *(f"indices_{name}" for name in _HISTORY)),
    row_tables=("rotary_emb",),
    frames=lambda config, call: 0,
    convention=TWO_CALLS,
    conventions={"HeliosPyramidPipeline": replace(TWO_CALLS, impossible=_zero_star)},
)
"""The history of the video is packed ahead of what is denoised. Its tokens are the image too, fewer for old frames."""


def _motif_example(model: Any, rows: int) -> dict[str, Any]:
    """A video of 121 frames of 1280×736 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 31, 92, 160, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_embed_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 512, device=device),
    }


_MOTIF_BLOCKS = ("transformer_blocks", "single_transformer_blocks")

MOTIF_VIDEO = Family(
    models=("MotifVideoTransformer3DModel",),
    sites=transformer_sites(*_MOTIF_BLOCKS, names=("double", "single")),
    example=_motif_example,
    layers=1 / 6,
    scale=3.0,
    source="no published setting: the middle of the double blocks, by analogy with arXiv 2403.17377",
    trunk=("x_embedder", "time_text_embed", "context_embedder", "image_embedder", *_MOTIF_BLOCKS),
    row_arguments=(*ROWS, "image_embeds"),
    image=before_text,
    frames=lambda config, call: call["hidden_states"].shape[2] // config.patch_size_t,
    convention=TWO_CALLS,
)
"""In the last blocks, the decoder, what the encoder made of the video takes the place of the text."""


def _generated(attending: Attending) -> slice:
    """The video that is generated comes last, after its sound; given frames and references lie ahead of both."""
    sound, video = attending.call["audio_indices"], attending.call["video_indices"]
    start = attending.queries - video.shape[0] if sound.is_meta else int(sound[-1]) + 1
    return slice(start, attending.queries)


def _minimax_example(model: Any, rows: int) -> dict[str, Any]:
    """A video of 13 latent frames of 1280×736 pixels with its sound, and 512 text tokens."""
    config, device = model.config, model.device
    text, sound, video = 512, 200, 13 * 23 * 40
    places = torch.arange(text + sound + video, device=device)
    return {
        "hidden_states": torch.empty(rows, video, config.in_channels * math.prod(config.patch_size), device=device),
        "audio_hidden_states": torch.empty(rows, sound, config.audio_in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, text, config.text_dim, device=device),
        "timestep": torch.ones(1, device=device),
        "timestep_indices": torch.zeros_like(places),
        "token_tags": torch.zeros_like(places),
        "position_ids": torch.zeros(len(places), 3, device=device),
        "text_indices": places[:text],
        "audio_indices": places[text : text + sound],
        "video_indices": places[text + sound :],
    }


MINIMAX_H3 = Family(
    models=("MiniMaxH3Transformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_minimax_example,
    layers=0.5,
    scale=3.0,
    source=_MIDDLE,
    trunk=("proj_in", "audio_proj_in", "context_embedder", "token_refiner", "transformer_blocks"),
    row_arguments=("hidden_states", "audio_hidden_states", "encoder_hidden_states"),
    tables=("temb",),
    unshared=("adaln_proj",),
    image=_generated,
    frames=lambda config, call: 0,
    predictions=2,
    convention=Convention(groups=("cond",), log_sigma=True),
)
"""One sequence of text, given frames, sound and video; all rows have the same layout and the same timesteps."""

FAMILIES = (EASYANIMATE, HELIOS, MOTIF_VIDEO, MINIMAX_H3)
