"""Images with joint attention in one stack of blocks, the image ahead of the text: JoyImage-Edit and Nucleus-Image."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites

_SOURCE = "no published setting: the middle block, by analogy with arXiv 2403.17377"


def joy_image(attending: Attending) -> slice:
    """What is denoised is first, then the images that are conditions: the last of several items, if there are any."""
    patch = attending.config.patch_size
    frames, height, width = attending.call["hidden_states"].shape[-3:]
    return slice(0, (frames // patch[0]) * (height // patch[1]) * (width // patch[2]))


def joy_plus_image(attending: Attending) -> Sequence[slice]:
    """The first of the shapes of each row is that of what is denoised."""
    return [slice(0, prod(shapes[0])) for shapes in attending.call["shape_list"]]


def joy_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels made from another, with 512 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 2, config.in_channels, 1, 128, 128, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
    }


def joy_plus_example(model: Any, rows: int) -> dict[str, Any]:
    """The same."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 2 * 4096, config.in_channels, *config.patch_size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.text_dim, device=device),
        "shape_list": [[(1, 64, 64), (1, 64, 64)]] * rows,
    }


def nucleus_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.joint_attention_dim, device=device),
        "timestep": torch.ones(rows, device=device),
        "img_shapes": [(1, 64, 64)] * rows,
    }


JOY_IMAGE_EDIT = Family(
    models=("JoyImageEditTransformer3DModel",),
    sites=transformer_sites("double_blocks"),
    example=joy_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("double_blocks",),
    image=joy_image,
    convention=Convention(calls=("cond", "uncond"), norm=True),
)

JOY_IMAGE_EDIT_PLUS = Family(
    models=("JoyImageEditPlusTransformer3DModel",),
    sites=transformer_sites("double_blocks"),
    example=joy_plus_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("double_blocks",),
    row_lists=("shape_list",),
    row_tables=("image_rotary_emb",),
    image=joy_plus_image,
    convention=Convention(formula=None, norm=True),
)

NUCLEUS_IMAGE = Family(
    models=("NucleusMoEImageTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=nucleus_example,
    layers=0.5,
    scale=3.0,
    source=_SOURCE,
    trunk=("img_in", "txt_norm", "transformer_blocks"),
    row_arguments=(*ROWS, "attention_kwargs.cached_txt_key", "attention_kwargs.cached_txt_value"),
    shift=lambda attending: 0,
    convention=Convention(calls=("cond", "uncond"), switch="do_cfg", norm=True),
)

FAMILIES = (JOY_IMAGE_EDIT, JOY_IMAGE_EDIT_PLUS, NUCLEUS_IMAGE)
