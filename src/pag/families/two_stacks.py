"""Images with joint attention in two stacks of blocks, the image ahead of the text: HiDream and HunyuanImage."""

from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family, before_text
from pag.families._sites import transformer_sites

_SOURCE = "no published setting: the middle of the double blocks, by analogy with arXiv 2403.17377"


def hidream_image(attending: Attending) -> slice:
    """An image that is no square is filled up to the largest number of tokens, which are no image then."""
    call, patch = attending.call, attending.config.patch_size
    if (sizes := call.get("img_sizes")) is not None:
        return slice(0, int(sizes[0][0] * sizes[0][1]))
    height, width = call["hidden_states"].shape[-2:]
    return slice(0, (height // patch) * (width // patch))


def hidream_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 128 tokens of each text encoder."""
    config, device = model.config, model.device
    layers = max(config.llama_layers) + 1
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 128, 128, device=device),
        "timesteps": torch.ones(rows, device=device),
        "encoder_hidden_states_t5": torch.empty(rows, 128, config.caption_channels[0], device=device),
        "encoder_hidden_states_llama3": torch.empty(layers, rows, 128, config.caption_channels[1], device=device),
        "pooled_embeds": torch.empty(rows, config.text_emb_dim, device=device),
    }


def hunyuan_example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 2048×2048 pixels, with 256 text tokens."""
    config, device = model.config, model.device
    size = (64, 64) if len(config.patch_size) == 2 else (1, 128, 128)
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, *size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.text_embed_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 256, device=device),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.ones(rows, device=device)
    if config.use_meanflow:
        arguments["timestep_r"] = torch.ones(rows, device=device)
    return arguments


HIDREAM = Family(
    models=("HiDreamImageTransformer2DModel",),
    sites=transformer_sites("double_stream_blocks", "single_stream_blocks", names=("double", "single")),
    example=hidream_example,
    layers=0.17,
    scale=3.0,
    source=_SOURCE,
    trunk=("x_embedder", "double_stream_blocks", "single_stream_blocks"),
    timestep="timesteps",
    row_arguments=(
        "hidden_states",
        "timesteps",
        "encoder_hidden_states_t5",
        "encoder_hidden_states_llama3",
        "pooled_embeds",
        "img_ids",
        "img_sizes",
        "hidden_states_masks",
    ),
    layered_arguments=("encoder_hidden_states_llama3",),
    row_tables=("image_rotary_emb",),
    image=hidream_image,
)

HUNYUAN_IMAGE = Family(
    models=("HunyuanImageTransformer2DModel",),
    sites=transformer_sites("transformer_blocks", "single_transformer_blocks", names=("double", "single")),
    example=hunyuan_example,
    layers=0.17,
    scale=3.0,
    source=_SOURCE,
    trunk=("x_embedder", "context_embedder", "transformer_blocks", "single_transformer_blocks"),
    row_arguments=(*ROWS, "timestep_r", "encoder_hidden_states_2", "encoder_attention_mask_2"),
    image=before_text,
    convention=Convention(calls=("cond", "uncond")),
)

FAMILIES = (HIDREAM, HUNYUAN_IMAGE)
