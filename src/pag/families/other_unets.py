"""U-Nets beside Stable Diffusion's: of videos, of images without text, of sound."""

from typing import Any

import torch
from torch import Tensor

from pag.families import unet
from pag.families._adm import adm_layers, adm_sites, learned_variance
from pag.families._family import Convention, Family
from pag.families._sites import transformer_sites

_SPATIAL = "mid_block.attentions.0.transformer_blocks"
_BY_ANALOGY = "no published setting: {}, by analogy with arXiv 2403.17377"


def _motion_example(model: Any, rows: int) -> dict[str, Any]:
    """16 frames of 512×512 pixels."""
    config, device = model.config, model.device
    size, frames = config.sample_size or 64, min(16, config.motion_max_seq_length)
    arguments: dict[str, Any] = {
        "sample": torch.empty(rows, config.in_channels, frames, size, size, device=device),
        "timestep": torch.ones((), device=device),
        "encoder_hidden_states": torch.empty(rows * frames, 77, config.cross_attention_dim, device=device),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        sizes = {
            "text_embeds": torch.empty(rows, pooled, device=device),
            "time_ids": torch.empty(rows, 6, device=device),
        }
        arguments["added_cond_kwargs"] = sizes
    return arguments


def _video_example(model: Any, rows: int) -> dict[str, Any]:
    """Stable Video Diffusion's frames of 1024×576 pixels."""
    config, device = model.config, model.device
    ids = config.projection_class_embeddings_input_dim // config.addition_time_embed_dim
    return {
        "sample": torch.empty(rows, config.num_frames, config.in_channels, 72, 128, device=device),
        "timestep": torch.ones((), device=device),
        "encoder_hidden_states": torch.empty(rows, 1, config.cross_attention_dim, device=device),
        "added_time_ids": torch.empty(rows, ids, device=device),
    }


def _plain_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size or 64
    size = size if isinstance(size, int) else size[0]
    arguments: dict[str, Any] = {
        "sample": torch.empty(rows, config.in_channels, size, size, device=device),
        "timestep": torch.ones((), device=device),
    }
    if config.num_class_embeds is not None:
        arguments["class_labels"] = torch.zeros(rows, dtype=torch.long, device=device)
    return arguments


def _kandinsky3_example(model: Any, rows: int) -> dict[str, Any]:
    """1024×1024 pixels, and 128 tokens of the text."""
    config, device = model.config, model.device
    return {
        "sample": torch.empty(rows, config.in_channels, 128, 128, device=device),
        "timestep": torch.ones((), device=device),
        "encoder_hidden_states": torch.empty(rows, 128, config.encoder_hid_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 128, device=device),
    }


def _sound_example(model: Any, rows: int) -> dict[str, Any]:
    """10 seconds, 8 generated tokens and 77 of the text."""
    config, device = model.config, model.device
    dims = config.cross_attention_dim
    dims = (dims,) if isinstance(dims, int) else dims[0] if isinstance(dims[0], list | tuple) else dims
    widths: list[int] = [width for width in dims if width is not None]

    def text(length: int, width: int) -> Tensor:
        return torch.empty(rows, length, width, device=device)

    return {
        "sample": torch.empty(rows, config.in_channels, 256, 16, device=device),
        "timestep": torch.ones((), device=device),
        "encoder_hidden_states": text(8, widths[0]),
        "encoder_hidden_states_1": text(77, widths[-1]),
        "encoder_attention_mask_1": torch.ones(rows, 77, device=device),
    }


MOTION = Family(
    models=("UNetMotionModel",),
    sites=unet.sites,
    sample="sample",
    row_arguments=unet.UNET.row_arguments,
    folded_arguments=(
        "encoder_hidden_states",
        "down_block_additional_residuals",
        "mid_block_additional_residual",
    ),
    trunk=unet.TRUNK,
    trunk_arguments=("sample", "timestep", "timestep_cond"),
    text_entry=unet.text_entry,
    example=_motion_example,
    layers=(_SPATIAL,),
    scale=3.0,
    source="diffusers pull request #8789: the spatial layer in the middle",
)

VIDEO = Family(
    models=("UNetSpatioTemporalConditionModel",),
    sites=unet.sites,
    sample="sample",
    row_arguments=("sample", "timestep", "encoder_hidden_states", "added_time_ids"),
    trunk=unet.TRUNK,
    trunk_arguments=("sample", "timestep", "added_time_ids"),
    text_entry=unet.text_entry,
    example=_video_example,
    layers=(_SPATIAL,),
    scale=3.0,
    source=_BY_ANALOGY.format("the spatial layer in the middle"),
)

PLAIN = Family(
    models=("UNet2DModel", "ADMUNet"),
    sites=adm_sites,
    sample="sample",
    row_arguments=("sample", "timestep", "class_labels"),
    trunk=unet.TRUNK,
    variance=learned_variance,
    degradable=True,
    looked_at=("mid",),
    example=_plain_example,
    layers=("mid",),
    layers_of=adm_layers,
    scale=3.0,
    source="ADM: its authors' four layers, arXiv 2403.17377; others: the middle layer, by analogy",
    convention=unet.NO_CFG,
    conventions={"ConsistencyModelPipeline": Convention(("cond",), log_sigma=True)},
)

KANDINSKY3 = Family(
    models=("Kandinsky3UNet",),
    # The others of a block's attentions are those to the text.
    sites=transformer_sites("down_blocks", "up_blocks", ends=r"\.attentions\.0\.attention$", names=("down", "up")),
    sample="sample",
    row_arguments=("sample", "timestep", "encoder_hidden_states", "encoder_attention_mask"),
    trunk=("conv_in", "time_embedding", "down_blocks", "up_blocks"),
    example=_kandinsky3_example,
    layers=0.5,
    scale=3.0,
    source=_BY_ANALOGY.format("the layer behind the middle, which has none of its own"),
    convention=Convention(from_cond=True),
)

SOUND = Family(
    models=("AudioLDM2UNet2DConditionModel",),
    sites=unet.sites,
    sample="sample",
    row_arguments=(
        *unet.UNET.row_arguments,
        "encoder_hidden_states_1",
        "encoder_attention_mask_1",
    ),
    trunk=unet.TRUNK,
    trunk_arguments=unet.UNET.trunk_arguments,
    text_entry=unet.text_entry,
    example=_sound_example,
    layers=("mid_block.attentions.0.transformer_blocks.0.attn1",),
    scale=3.0,
    source=_BY_ANALOGY.format("the middle layer"),
)

FAMILIES = (MOTION, VIDEO, PLAIN, KANDINSKY3, SOUND)
