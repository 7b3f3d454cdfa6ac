"""Networks of `pag.families.other_unets`, and DreamLite's of `pag.families.unet`."""

from typing import Any

import torch
from diffusers import (
    Kandinsky3UNet,
    UNet2DModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2UNet2DConditionModel
from torch import Generator

from tests.denoisers._network import Network, randn

FRAMES, TEXT = 3, 5
_MID, _SPATIAL = "mid_block.attentions.0", "mid_block.attentions.0.transformer_blocks.0.attn1"
_TIME = torch.tensor(500)


def _motion(**config: Any) -> UNetMotionModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "num_attention_heads": 2,
        "motion_num_attention_heads": 2,
        "motion_max_seq_length": 8,
    }
    return UNetMotionModel(**(tiny | config))


def _motion_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "sample": randn(generator, rows, 4, FRAMES, 8, 8),
        "timestep": _TIME,
        "encoder_hidden_states": randn(generator, rows * FRAMES, TEXT, 16),
    }


def _motion_xl() -> UNetMotionModel:
    return _motion(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=16 + 6 * 4
    )


def _motion_xl_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    sizes = {"text_embeds": randn(generator, rows, 16), "time_ids": randn(generator, rows, 6)}
    return _motion_inputs(rows, generator) | {"added_cond_kwargs": sizes}


def _video() -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12,
        num_frames=FRAMES,
    )


def _video_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "sample": randn(generator, rows, FRAMES, 8, 8, 8),
        "timestep": _TIME,
        "encoder_hidden_states": randn(generator, rows, 1, 16),
        "added_time_ids": randn(generator, rows, 3),
    }


def plain(**config: Any) -> UNet2DModel:
    """A U-Net without text."""
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DModel(**(tiny | config))


def _plain_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {"sample": randn(generator, rows, 3, 8, 8), "timestep": _TIME}


def _labelled_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    labels = torch.randint(0, 10, (rows,), generator=generator)
    return _plain_inputs(rows, generator) | {"class_labels": labels}


def _kandinsky3() -> Kandinsky3UNet:
    return Kandinsky3UNet(
        time_embedding_dim=16,
        groups=4,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(16, 16, 32),
        cross_attention_dim=16,
        encoder_hid_dim=16,
    )


def _kandinsky3_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "sample": randn(generator, rows, 4, 8, 8),
        "timestep": _TIME,
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]).repeat(rows, 1),
    }


def _sound() -> AudioLDM2UNet2DConditionModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        "cross_attention_dim": ((None, 16, 12), (None, 16, 12)),
    }
    return AudioLDM2UNet2DConditionModel(**tiny)


def _sound_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "sample": randn(generator, rows, 4, 8, 8),
        "timestep": _TIME,
        "encoder_hidden_states": randn(generator, rows, 4, 16),
        "encoder_hidden_states_1": randn(generator, rows, TEXT, 12),
        "encoder_attention_mask_1": torch.tensor([[1, 1, 1, 1, 0]]).repeat(rows, 1),
    }


def _dreamlite() -> DreamLiteUNetModel:
    return DreamLiteUNetModel(
        sample_size=8,
        block_out_channels=(16, 16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=2,
        encoder_hid_dim=12,
        encoder_hid_dim_type="text_proj_rms",
        addition_embed_type="time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=8,
        ff_mult=2,
    )


def _dreamlite_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "sample": randn(generator, rows, 4, 8, 16),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 12),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0]]).repeat(rows, 1),
        "added_cond_kwargs": {"time_ids": torch.full((rows, 2), 8.0)},
    }


NETWORKS = {
    "animatediff": Network(
        _motion,
        _motion_inputs,
        (_SPATIAL, "mid_block.motion_modules.0.transformer_blocks.0.attn1"),
        tables=("timestep",),
    ),
    "animatediff_xl": Network(
        _motion_xl,
        _motion_xl_inputs,
        (_SPATIAL,),
        tables=("timestep",),
        uncond=("encoder_hidden_states", "added_cond_kwargs"),
    ),
    "svd": Network(
        _video,
        _video_inputs,
        (_SPATIAL, "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"),
        tables=("timestep",),
    ),
    "unet2d": Network(plain, _plain_inputs, (_MID, "down_blocks.1.attentions.0"), tables=("timestep",), uncond=()),
    "unet2d_variance": Network(
        lambda: plain(out_channels=6, num_class_embeds=10),
        _labelled_inputs,
        (_MID,),
        tables=("timestep",),
        variance=True,
        uncond=("class_labels",),
    ),
    "kandinsky3": Network(
        _kandinsky3,
        _kandinsky3_inputs,
        ("down_blocks.1.attentions.0.attention", "up_blocks.0.attentions.0.attention"),
        tables=("timestep",),
    ),
    "audioldm2": Network(
        _sound,
        _sound_inputs,
        (_SPATIAL, "mid_block.attentions.0.transformer_blocks.0.attn2"),
        tables=("timestep",),
        uncond=("encoder_hidden_states", "encoder_hidden_states_1"),
    ),
    "dreamlite": Network(_dreamlite, _dreamlite_inputs, (_SPATIAL,), tables=()),
}
