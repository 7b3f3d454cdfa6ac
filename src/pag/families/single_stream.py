"""Joint attention of one sequence that holds text and image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.transformers.transformer_ideogram4 import OUTPUT_IMAGE_INDICATOR
from torch import Tensor

from pag.families._family import ROWS, Attending, Convention, Family, after_text
from pag.families._sites import transformer_sites

COND_FIRST = Convention(
    ("cond", "uncond"), formula=None, switch="apply_cfg", scale="current_guidance_scale", from_cond=True, norm=True
)
"""The prompt's rows first, not in every step (``cfg_truncation``), and an upper bound of the norm, if asked for."""

_MULTIPLE, _TEXT = 32, 256
_SOURCE = "no published setting: the middle block, by analogy with arXiv 2403.17377"


def image_in_list(attending: Attending) -> slice | Sequence[slice]:
    """The image is ahead of the text, both filled up to a multiple of 32 tokens, which the filling is no image of.

    With images that are conditions (a list for each row, the last item is denoised) the text is ahead of them.
    """
    call = attending.call
    texts: Sequence[Any] = [[]] * len(call["x"]) if "refiner" in attending.site.path else call["cap_feats"]
    each = [_image_of_row(call, row, text) for row, text in zip(call["x"], texts, strict=True)]
    return each[0] if all(one == each[0] for one in each) else each


def _image_of_row(call: Any, row: Any, texts: Sequence[Any]) -> slice:
    if isinstance(row, Tensor):
        return slice(0, _tokens(call, row))
    before = [len(text) for text in texts] + [_tokens(call, image) for image in row[:-1]]
    start = sum(count + -count % _MULTIPLE for count in before)
    return slice(start, start + _tokens(call, row[-1]))


def _tokens(call: Any, image: Tensor | None) -> int:
    if image is None:
        return _MULTIPLE
    patch, frames = call.get("patch_size", 2), call.get("f_patch_size", 1)
    return image[0].numel() // (patch * patch * frames)


def z_image_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 128 text tokens."""
    config, device = model.config, model.device
    return {
        "x": [torch.empty(config.in_channels, 1, 128, 128, device=device) for _ in range(rows)],
        "t": torch.ones(rows, device=device),
        "cap_feats": [torch.empty(128, config.cap_feat_dim, device=device) for _ in range(rows)],
    }


def ernie_image(attending: Attending) -> slice:
    """The text is behind the image."""
    return slice(0, attending.queries - attending.text("text_bth"))


def ernie_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 64, 64, device=device),
        "timestep": torch.ones(rows, device=device),
        "text_bth": torch.empty(rows, 256, config.text_in_dim, device=device),
        "text_lens": torch.ones(rows, device=device),
    }


def krea_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    text = (rows, 512, config.num_text_layers, config.text_hidden_dim)
    return {
        "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(text, device=device),
        "timestep": torch.ones(rows, device=device),
        "position_ids": torch.zeros(512 + 4096, 3, device=device),
        "encoder_attention_mask": torch.ones(rows, 512, dtype=torch.bool, device=device),
    }


def prx_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 512×512 latents' pixels or 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    size = 32 * config.patch_size
    return {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.context_in_dim, device=device),
    }


def ideogram_image(attending: Attending) -> slice:
    """The text, filled up to the longest, is ahead of the image, which only the tokens' roles tell."""
    roles = attending.call["indicator"][0]
    if roles.is_meta:  # what it costs is counted for the example below
        return slice(_TEXT, attending.queries)
    return slice(attending.queries - int((roles == OUTPUT_IMAGE_INDICATOR).sum()), attending.queries)


def ideogram_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    tokens = _TEXT + 4096
    roles = torch.full((rows, tokens), OUTPUT_IMAGE_INDICATOR, device=device)
    return {
        "hidden_states": torch.empty(rows, tokens, config.in_channels, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, tokens, config.llm_features_dim, device=device),
        "position_ids": torch.zeros(rows, tokens, 3, dtype=torch.long, device=device),
        "segment_ids": torch.ones(rows, tokens, dtype=torch.long, device=device),
        "indicator": roles,
    }


def omnigen_image(attending: Attending) -> slice:
    """The image is last, behind the text and the images in it and a token of the time."""
    tokens = _tokens({"patch_size": attending.config.patch_size}, attending.call["hidden_states"][0])
    return slice(attending.queries - tokens, attending.queries)


def grow_images(call: Mapping[str, Any], rows: Sequence[int]) -> Mapping[str, Any]:
    """Images in the text lie in one list for all rows, in the order of a dictionary of their places by row."""
    places, images = call["input_image_sizes"], iter(call["input_img_latents"])
    of_row = {row: [next(images) for _ in places[row]] for row in places}
    return {
        "input_img_latents": [image for row in rows for image in of_row.get(row, [])],
        "input_image_sizes": {index: places[row] for index, row in enumerate(rows) if row in places},
    }


def omnigen_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 128 text tokens."""
    config, device = model.config, model.device
    tokens = 128 + 1 + 4096
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 128, 128, device=device),
        "timestep": torch.ones(rows, device=device),
        "input_ids": torch.zeros(rows, 128, dtype=torch.long, device=device),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.ones(rows, tokens, tokens, device=device),
        "position_ids": torch.zeros(rows, tokens, dtype=torch.long, device=device),
    }


Z_IMAGE = Family(
    models=("ZImageTransformer2DModel",),
    sites=transformer_sites("noise_refiner", "layers", names=("refiner", "")),
    example=z_image_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("noise_refiner", "context_refiner", "siglip_refiner", "layers"),
    sample="x",
    timestep="t",
    row_arguments=("t", "controlnet_block_samples"),
    row_lists=("x", "cap_feats", "siglip_feats", "image_noise_mask"),
    row_tables=("freqs_cis",),
    image=image_in_list,
    convention=COND_FIRST,
)

ERNIE_IMAGE = Family(
    models=("ErnieImageTransformer2DModel",),
    sites=transformer_sites("layers"),
    example=ernie_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("layers",),
    row_arguments=("hidden_states", "timestep", "text_bth", "text_lens"),
    row_tables=("rotary_pos_emb",),
    rows_second=("x", "temb"),
    unshared=("adaLN_sa_ln", "adaLN_mlp_ln"),
    image=ernie_image,
)

KREA_2 = Family(
    models=("Krea2Transformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=krea_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("text_fusion", "txt_in", "img_in", "transformer_blocks"),
    image=after_text,
    convention=Convention(calls=("cond", "uncond"), from_cond=True),
)

PRX = Family(
    models=("PRXTransformer2DModel",),
    sites=transformer_sites("blocks"),
    example=prx_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("img_in", "txt_in", "blocks"),
    row_tables=("image_rotary_emb",),
)

IDEOGRAM_4 = Family(
    models=("Ideogram4Transformer2DModel",),
    sites=transformer_sites("layers"),
    example=ideogram_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("input_proj", "llm_cond_norm", "llm_cond_proj", "layers"),
    row_arguments=(*ROWS, "position_ids", "segment_ids", "indicator"),
    row_tables=("image_rotary_emb",),
    image=ideogram_image,
    convention=Convention(calls=("cond", "uncond")),
)

OMNIGEN = Family(
    models=("OmniGenTransformer2DModel",),
    sites=transformer_sites("layers"),
    example=omnigen_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("layers",),
    row_arguments=("hidden_states", "timestep", "input_ids", "attention_mask", "position_ids"),
    grow=grow_images,
    image=omnigen_image,
    convention=Convention(
        ("cond", "uncond"), groups_by=("num_cfg", {2: ("cond", "uncond", "image")}), switch="num_cfg"
    ),
)
"""With images in the text ``u + gᵢ·(cᵢ − u) + g·(c − cᵢ)``, where cᵢ has the images only."""

FAMILIES = (Z_IMAGE, OMNIGEN, ERNIE_IMAGE, KREA_2, PRX, IDEOGRAM_4)
