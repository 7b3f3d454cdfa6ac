"""Joint attention in one stack of blocks: Qwen-Image and its relatives."""

from math import prod
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites

TRUE_CFG = Convention(calls=("cond", "uncond"), switch="do_true_cfg", scale="true_cfg_scale", norm=True)
"""Two calls a step, the prompt's first, if `true_cfg_scale` is above 1 and there is a negative prompt."""


def image(attending: Attending) -> slice:
    """After the text: what is denoised, then the images that it is made from, which are conditions as the text is.

    A list of shapes holds the first of them; with layers (``additional_t_cond``) it holds all but the last.
    """
    shapes = attending.call["img_shapes"][0]
    if isinstance(shapes, tuple):
        tokens = prod(shapes)  # pyright: ignore
    elif attending.call.get("additional_t_cond") is not None:
        tokens = sum(prod(shape) for shape in shapes[:-1])
    else:
        tokens = prod(shapes[0])
    text = attending.text()
    return slice(text, text + tokens)


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    layers = [[(1, 64, 64), (1, 64, 64)]] * rows if config.use_additional_t_cond else [[(1, 64, 64)]] * rows
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, 4096 * len(layers[0]), config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.joint_attention_dim, device=device),
        "timestep": torch.ones(rows, device=device),
        "img_shapes": layers,
    }
    if config.use_additional_t_cond:
        arguments["additional_t_cond"] = torch.zeros(rows, dtype=torch.long, device=device)
    return arguments


QWEN_IMAGE = Family(
    models=("QwenImageTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("img_in", "txt_norm", "txt_in", "transformer_blocks"),
    row_arguments=(*ROWS, "controlnet_block_samples", "additional_t_cond"),
    row_lists=("img_shapes",),
    row_tables=("modulate_index",),
    row_stacks=("temb",),
    unshared=("img_mod",),
    image=image,
    convention=TRUE_CFG,
)


def image_after_prefix(attending: Attending) -> slice | None:
    """Layers of 2.1 attend in one operation for each piece of the sequence: the last is of what is denoised."""
    tokens = prod(attending.call["img_shapes"][0][-1])
    given = attending.call["hidden_states"].shape[1]
    # In the text an image that is a condition stands as one slot for four of its tokens.
    text = attending.call["encoder_hidden_states"].shape[1] - (given - tokens) // 4
    return slice(0, tokens) if (attending.queries, attending.keys) == (tokens, text + given) else None


def example_after_prefix(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.context_in_dim, device=device),
        "timestep": torch.ones(rows, device=device),
        "img_shapes": [[(1, 64, 64)]] * rows,
        "img_mask": torch.cat([torch.zeros(rows, 256), torch.ones(rows, 1024)], dim=1).bool(),
    }


QWEN_IMAGE_21 = Family(
    models=("QwenImage21Transformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=example_after_prefix,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("img_in", "txt_in", "transformer_blocks"),
    row_stacks=("modulation",),
    tables=("target_token_mask",),
    stores=("kv_cache",),
    image=image_after_prefix,
    convention=Convention(calls=("cond", "uncond"), switch="do_true_cfg", scale="true_cfg_scale"),
)

FAMILIES = (QWEN_IMAGE, QWEN_IMAGE_21)
