"""Modular pipelines of images."""

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.modular._run import ModularRun


def noise(seed: int, *shape: int) -> Tensor:
    """Embeddings of a prompt that nobody wrote."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeddings(rows: int = 1, text: int = 5, width: int = 16) -> dict[str, Tensor]:
    """Those of a prompt and of a negative prompt."""
    return {"prompt_embeds": noise(1, rows, text, width), "negative_prompt_embeds": noise(2, rows, text, width)}


def pooled(rows: int = 1, width: int = 16) -> dict[str, Tensor]:
    """The same as one vector."""
    return {"pooled_prompt_embeds": noise(3, rows, width), "negative_pooled_prompt_embeds": noise(4, rows, width)}


def transformer(name: str) -> dict[str, Any]:
    """A denoiser and the scheduler of most transformers."""
    return {"transformer": strong(NETWORKS[name].make), "scheduler": FlowMatchEulerDiscreteScheduler()}


def _unet() -> UNet2DConditionModel:
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": (2, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "transformer_layers_per_block": (1, 2),
        "projection_class_embeddings_input_dim": 40,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**tiny)


def _sdxl() -> dict[str, Any]:
    return {"unet": strong(_unet), "scheduler": EulerDiscreteScheduler()}


SDXL_LAYER = "mid_block.attentions.0.transformer_blocks.1.attn1"

RUNS = {
    "StableDiffusionXLAutoBlocks": ModularRun(
        "StableDiffusionXLAutoBlocks",
        _sdxl,
        lambda: embeddings() | pooled() | {"height": 64, "width": 64},
        SDXL_LAYER,
    ),
    "StableDiffusion3AutoBlocks": ModularRun(
        "StableDiffusion3AutoBlocks",
        lambda: transformer("sd3"),
        lambda: embeddings() | pooled() | {"height": 64, "width": 64},
        "transformer_blocks.1.attn",
        slice(0, 16),
    ),
}
