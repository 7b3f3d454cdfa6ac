"""Transformers of images that take the text in attention of its own."""

from typing import Any

import torch

from pag.families._family import ROWS, Family
from pag.families._sites import transformer_sites


def _pixart_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(rows, 300, config.caption_channels, device=device),
        "timestep": torch.ones(rows, device=device),
    }
    if model.use_additional_conditions:
        sizes = {"resolution": torch.ones(rows, 2, device=device), "aspect_ratio": torch.ones(rows, 1, device=device)}
        arguments["added_cond_kwargs"] = sizes
    else:
        arguments["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    return arguments


PIXART = Family(
    models=("PixArtTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_pixart_example,
    layers=0.5,
    scale=3.0,
    source="the example of diffusers' PixArtSigmaPAGPipeline: block 14 of 28",
    trunk=("pos_embed", "caption_projection", "transformer_blocks"),
    row_arguments=(*ROWS, "added_cond_kwargs"),
    variance=lambda model: model.config.out_channels == 2 * model.config.in_channels,
)


def _hunyuan_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size, grid = config.sample_size, config.sample_size // config.patch_size
    table = torch.ones(grid * grid, config.attention_head_dim, device=device)
    return {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, config.text_len, config.cross_attention_dim, device=device),
        "text_embedding_mask": torch.ones(rows, config.text_len, device=device),
        "encoder_hidden_states_t5": torch.empty(rows, config.text_len_t5, config.cross_attention_dim_t5, device=device),
        "text_embedding_mask_t5": torch.ones(rows, config.text_len_t5, device=device),
        "image_meta_size": torch.ones(rows, 6, device=device),
        "style": torch.zeros(rows, dtype=torch.long, device=device),
        "image_rotary_emb": (table, table),
    }


HUNYUAN_DIT = Family(
    models=("HunyuanDiT2DModel",),
    sites=transformer_sites("blocks"),
    example=_hunyuan_example,
    layers=0.35,
    scale=3.0,
    source="the example of diffusers' HunyuanDiTPAGPipeline: block 14 of 40",
    trunk=("pos_embed", "blocks"),
    row_arguments=(
        *ROWS,
        "text_embedding_mask",
        "encoder_hidden_states_t5",
        "text_embedding_mask_t5",
        "image_meta_size",
        "style",
        "controlnet_block_samples",
    ),
    variance=lambda model: model.config.learn_sigma,
)

FAMILIES = (PIXART, HUNYUAN_DIT)
