"""Flux 2 and Flux 3: joint attention, in the second of two stacks with attention and feed-forward side by side."""

from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites
from pag.families.flux import SITES
from pag.families.flux_relatives import TWO_CALLS


def image(attending: Attending) -> slice | None:
    """The text comes first. Reference images are images, unless their keys and values are kept from step to step.

    Those attend to nothing but themselves, and are computed but once: the image attends to them as it does to text.
    """
    references = attending.inputs.get("kv_cache_mode") == "extract" and attending.keys == attending.queries
    return None if references else slice(attending.call["encoder_hidden_states"].shape[1], attending.queries)


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments for an image of 1024×1024 pixels, with 512 text tokens."""
    config, device = model.config, model.device
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.joint_attention_dim, device=device),
        "timestep": torch.ones(rows, device=device),
        "img_ids": torch.zeros(4096, 4, device=device),
        "txt_ids": torch.zeros(512, 4, device=device),
    }
    for switch, name in (("guidance_embeds", "guidance"), ("flow_map", "target_timestep")):
        if config.get(switch):
            arguments[name] = torch.ones(rows, device=device)
    return arguments


FLUX_2 = Family(
    models=("Flux2Transformer2DModel",),
    sites=SITES,
    example=example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=(
        "time_guidance_embed",
        "double_stream_modulation_img",
        "double_stream_modulation_txt",
        "single_stream_modulation",
        "x_embedder",
        "context_embedder",
        "transformer_blocks",
        "single_transformer_blocks",
    ),
    stores=("kv_cache",),
    image=image,
    convention=Convention(groups=("cond",)),
    conventions={"Flux2KleinPipeline": TWO_CALLS, "Flux2KleinInpaintPipeline": TWO_CALLS},
)


def image_after_text(attending: Attending) -> slice:
    """The blocks of the first stack hold the image alone; in those of the second the text comes first."""
    text = 0 if attending.site.block.startswith("image") else attending.call["encoder_hidden_states"].shape[1]
    return slice(text, attending.queries)


FLUX_3 = Family(
    models=("Flux3Transformer2DModel",),
    sites=transformer_sites("mode_blocks.image", "single_transformer_blocks", names=("image", "single")),
    example=example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=(
        "timestep_embedder",
        "target_timestep_embedder",
        "early_stream_modulations",
        "single_stream_modulations",
        "context_embedder",
        "x_embedders",
        "txt_mode_blocks",
        "mode_blocks",
        "single_transformer_blocks",
    ),
    row_arguments=(*ROWS, "image_cond_hidden_states", "target_timestep"),
    image=image_after_text,
    convention=TWO_CALLS,
)

FAMILIES = (FLUX_2, FLUX_3)
