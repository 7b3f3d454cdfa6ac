"""Transformers of images and videos that take the text in attention of its own, and what descends from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import projected_text, text_enters_at, transformer_sites
from pag.families.wan import SOURCE


def _pixart_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size
    arguments: dict[str, Any] = {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(
            rows, 300, config.caption_channels or config.cross_attention_dim, device=device
        ),
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
    degradable=True,
    trunk=("pos_embed", "caption_projection", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection",),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep", "attention_mask", "added_cond_kwargs"),
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


def _lumina_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, config.sample_size, config.sample_size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.cross_attention_dim, device=device),
        "encoder_mask": torch.ones(rows, 256, device=device),
        "image_rotary_emb": torch.ones(384, 384, model.head_dim // 2, dtype=torch.complex64, device=device),
        "cross_attention_kwargs": {},
    }


LUMINA = Family(
    models=("LuminaNextDiT2DModel",),
    sites=transformer_sites("layers"),
    example=_lumina_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("time_caption_embed", "layers"),
    row_arguments=(*ROWS, "encoder_mask"),
    variance=lambda model: model.config.learn_sigma,
    # CFG is for the first three channels only; the others keep the prompt's prediction.
    convention=Convention(("cond", "uncond"), formula=None),
)


def _lumina2_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, config.sample_size, config.sample_size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.cap_feat_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 256, dtype=torch.long, device=device),
    }


def _lumina2_image(attending: Attending) -> slice | Sequence[slice]:
    """Behind the text that is not masked, of another length in each row; the first blocks see the image alone."""
    if attending.site.path.startswith("noise_refiner"):
        return slice(0, attending.queries)
    _, _, height, width = attending.call["hidden_states"].shape
    tokens = (height // attending.config.patch_size) * (width // attending.config.patch_size)
    lengths: list[int] = attending.call["encoder_attention_mask"].sum(dim=1).tolist()
    if len(set(lengths)) == 1:
        return slice(lengths[0], lengths[0] + tokens)
    return [slice(length, length + tokens) for length in lengths]


LUMINA2 = Family(
    models=("Lumina2Transformer2DModel",),
    sites=transformer_sites("noise_refiner", "layers", names=("refiner", "joint")),
    example=_lumina2_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("context_refiner", "noise_refiner", "layers"),
    row_arguments=ROWS,
    row_tables=("image_rotary_emb",),
    image=_lumina2_image,
    convention=Convention(calls=("cond", "uncond"), truncated="do_classifier_free_truncation", norm=True),
)


def _latte_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size
    return {
        "hidden_states": torch.empty(rows, config.in_channels, config.video_length, size, size, device=device),
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 120, config.caption_channels, device=device),
    }


LATTE = Family(
    models=("LatteTransformer3DModel",),
    sites=transformer_sites("transformer_blocks", "temporal_transformer_blocks", names=("spatial", "temporal")),
    example=_latte_example,
    layers=0.25,  # the spatial ones are the first half
    scale=3.0,
    source="no published setting: the middle block of those that attend within frames, as in arXiv 2403.17377",
    # They alternate. So all temporal ones can share rows ahead of a spatial one.
    trunk=("caption_projection", "temporal_transformer_blocks", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection",),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep"),
    row_arguments=ROWS,
    variance=lambda model: model.config.out_channels == 2 * model.config.in_channels,
)


def _allegro_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    frames, height, width = config.sample_frames, config.sample_height, config.sample_width
    sizes = (frames // config.patch_size_t, height // config.patch_size, width // config.patch_size)
    angles = [torch.ones(size, config.attention_head_dim // 3, device=device) for size in sizes]
    positions = torch.zeros(1, math.prod(sizes), dtype=torch.long, device=device)
    return {
        "hidden_states": torch.empty(rows, config.in_channels, frames, height, width, device=device),
        "encoder_hidden_states": torch.empty(rows, 512, config.caption_channels, device=device),
        "encoder_attention_mask": torch.ones(rows, 512, device=device),
        "timestep": torch.ones(rows, device=device),
        "image_rotary_emb": ([(table, table) for table in angles], [positions] * 3),
    }


def _allegro_frames(config: Any, call: Mapping[str, Any]) -> int:
    return call["hidden_states"].shape[2] // config.patch_size_t


ALLEGRO = Family(
    models=("AllegroTransformer3DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_allegro_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("pos_embed", "caption_projection", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    text_trunk=("caption_projection",),
    read_in={"encoder_hidden_states": projected_text},
    trunk_arguments=("hidden_states", "timestep", "attention_mask"),
    row_arguments=ROWS,
    frames=_allegro_frames,
)

FAMILIES = (PIXART, HUNYUAN_DIT, LUMINA, LUMINA2, LATTE, ALLEGRO)
