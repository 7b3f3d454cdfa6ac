"""CogView and GLM-Image: joint attention, with the text ahead of the image."""

from collections.abc import Mapping
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family, after_text
from pag.families._sites import transformer_sites

_SIZES = ("original_size", "target_size", "crop_coords")
_SOURCE = "no published setting: the middle block, by analogy with arXiv 2403.17377"
TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments at the size that the model was trained for, with 224 text tokens."""
    config, device = model.config, model.device
    size = config.get("sample_size", 128)
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(rows, 224, config.text_embed_dim, device=device),
        "timestep": torch.ones(rows, device=device),
    }
    return arguments | {name: torch.ones(rows, 2, device=device) for name in _SIZES}


def _glm_example(model: Any, rows: int) -> dict[str, Any]:
    arguments = example(model, rows)
    del arguments["original_size"]
    tokens = torch.zeros(rows, 4096, dtype=torch.long, device=model.device)
    return arguments | {"prior_token_id": tokens, "prior_token_drop": tokens.bool()}


def _fills_cache(call: Mapping[str, Any]) -> bool:
    caches = call.get("kv_caches")
    return caches is not None and caches[0].mode == "write"


def _after_text_and_images(attending: Attending) -> slice:
    """Keys and values of images that are conditions come from a cache that knows no rows but one for each prompt."""
    cache = attending.inputs.get("kv_cache")
    if cache is not None and cache.mode == "read" and len(cache.k_caches) > 1:
        raise ValueError(
            "GLM-Image keeps the images that are conditions by prompt, in an order that does not allow for the rows "
            "that guidance adds. Call the pipeline once for each prompt."
        )
    return after_text(attending)


COGVIEW3 = Family(
    models=("CogView3PlusTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("patch_embed", "transformer_blocks"),
    row_arguments=(*ROWS, *_SIZES),
    image=after_text,
)

COGVIEW4 = Family(
    models=("CogView4Transformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("patch_embed", "transformer_blocks"),
    row_arguments=(*ROWS, *_SIZES),
    image=after_text,
    convention=TWO_CALLS,
)

GLM_IMAGE = Family(
    models=("GlmImageTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_glm_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("image_projector", "glyph_projector", "prior_projector", "transformer_blocks"),
    row_arguments=(*ROWS, *_SIZES, "prior_token_id", "prior_token_drop"),
    image=_after_text_and_images,
    prepares=_fills_cache,
    convention=TWO_CALLS,
)

FAMILIES = (COGVIEW3, COGVIEW4, GLM_IMAGE)
