"""Flux and its relatives: joint attention in two stacks of blocks, with the text ahead of the image."""

from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites


def image(attending: Attending) -> slice | None:
    """The text's length is that of the whole call: blocks of the second stack get text and image in one piece.

    The first stack also attends to the image of an IP-Adapter, from the image's tokens alone.
    """
    alone = attending.queries == attending.inputs["hidden_states"].shape[1]
    if alone and attending.inputs.get("encoder_hidden_states") is not None:
        return None
    return slice(attending.call["encoder_hidden_states"].shape[1], attending.queries)


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with T5's 512 text tokens."""
    config, device = model.config, model.device
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.joint_attention_dim, device=device),
        "pooled_projections": torch.empty(rows, config.pooled_projection_dim, device=device),
        "timestep": torch.ones(rows, device=device),
        "img_ids": torch.zeros(4096, 3, device=device),
        "txt_ids": torch.zeros(512, 3, device=device),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.ones(rows, device=device)
    return arguments


TRUE_CFG = Convention(calls=("cond", "uncond"), switch="do_true_cfg", scale="true_cfg_scale")
"""Two calls a step, the prompt's first, if `true_cfg_scale` is above 1 and there is a negative prompt."""

SITES = transformer_sites("transformer_blocks", "single_transformer_blocks", names=("double", "single"))
NO_SETTING = "no published setting: a quarter of the way in"

FLUX = Family(
    models=("FluxTransformer2DModel",),
    sites=SITES,
    example=example,
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "time_text_embed", "context_embedder", "transformer_blocks", "single_transformer_blocks"),
    row_arguments=(
        *ROWS,
        "controlnet_block_samples",
        "controlnet_single_block_samples",
        "joint_attention_kwargs.ip_adapter_image_embeds",
        "joint_attention_kwargs.ip_hidden_states",
    ),
    image=image,
    convention=TRUE_CFG,
)

FAMILIES = (FLUX,)
