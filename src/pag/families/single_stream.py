"""Joint attention of one sequence that holds text and image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pag.families._family import Attending, Convention, Family
from pag.families._sites import transformer_sites

COND_FIRST = Convention(
    ("cond", "uncond"), formula=None, switch="apply_cfg", scale="current_guidance_scale", from_cond=True, norm=True
)
"""The prompt's rows first, not in every step (``cfg_truncation``), and an upper bound of the norm, if asked for."""

_MULTIPLE = 32


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


Z_IMAGE = Family(
    models=("ZImageTransformer2DModel",),
    sites=transformer_sites("noise_refiner", "layers", names=("refiner", "")),
    example=z_image_example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("noise_refiner", "context_refiner", "siglip_refiner", "layers"),
    sample="x",
    timestep="t",
    row_arguments=("t", "controlnet_block_samples"),
    row_lists=("x", "cap_feats", "siglip_feats", "image_noise_mask"),
    row_tables=("freqs_cis",),
    image=image_in_list,
    convention=COND_FIRST,
)

FAMILIES = (Z_IMAGE,)
