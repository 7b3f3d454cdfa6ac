"""Networks of `pag.families.two_stacks`."""

from typing import Any

import torch
from diffusers import HiDreamImageTransformer2DModel, HunyuanImageTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5


def hidream(**config: Any) -> HiDreamImageTransformer2DModel:
    tiny: dict[str, Any] = {
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_channels": [16, 12],
        "text_emb_dim": 16,
        "num_routed_experts": 2,
        "num_activated_experts": 1,
        "axes_dims_rope": (4, 2, 2),
        "max_resolution": (8, 8),
        "llama_layers": [0, 1, 1, 0],
    }
    return HiDreamImageTransformer2DModel(**(tiny | config))


def _hidream_inputs(rows: int, generator: Generator, height: int = 8) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, height, 8),
        "timesteps": torch.full((rows,), 500.0),
        "encoder_hidden_states_t5": randn(generator, rows, TEXT, 16),
        "encoder_hidden_states_llama3": [randn(generator, rows, 3, 12) for _ in range(2)],
        "pooled_embeds": randn(generator, rows, 16),
    }


def hunyuan(**config: Any) -> HunyuanImageTransformer2DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": 16,
        "text_embed_2_dim": 12,
        "rope_axes_dim": (4, 4),
    }
    return HunyuanImageTransformer2DModel(**(tiny | config))


def _hunyuan_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT)
    mask[0, 3:] = 0
    return {
        "hidden_states": randn(generator, rows, 4, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_attention_mask": mask,
    }


def _both_texts(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, 3)
    mask[-1, 1:] = 0
    second = {"encoder_hidden_states_2": randn(generator, rows, 3, 12), "encoder_attention_mask_2": mask}
    return _hunyuan_inputs(rows, generator) | second


def refiner() -> HunyuanImageTransformer2DModel:
    return hunyuan(
        in_channels=8,
        patch_size=(1, 1, 1),
        rope_axes_dim=(2, 2, 4),
        guidance_embeds=True,
        use_meanflow=True,
        text_embed_2_dim=None,
    )


def _refiner_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _hunyuan_inputs(rows, generator) | {
        "hidden_states": randn(generator, rows, 8, 1, 4, 4),
        "timestep_r": torch.full((rows,), 250.0),
        "guidance": torch.full((rows,), 3000.0),
    }


HIDREAM_PATHS = ("double_stream_blocks.1.block.attn1", "single_stream_blocks.0.block.attn1")
HUNYUAN_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_NOT_ON_META = {"cost": "the mixture of experts counts tokens, of which tensors without data know nothing"}
_UNCOND = ("encoder_hidden_states_t5", "encoder_hidden_states_llama3", "pooled_embeds")

NETWORKS = {
    "hidream": Network(hidream, _hidream_inputs, HIDREAM_PATHS, slice(0, 16), uncond=_UNCOND, xfail=_NOT_ON_META),
    "hidream not square": Network(
        hidream,
        lambda rows, generator: _hidream_inputs(rows, generator, 4),
        HIDREAM_PATHS,
        slice(0, 8),
        uncond=_UNCOND,
        xfail=_NOT_ON_META,
    ),
    "hunyuan-image": Network(hunyuan, _hunyuan_inputs, HUNYUAN_PATHS, slice(0, 16)),
    "hunyuan-image, two texts": Network(
        hunyuan,
        _both_texts,
        HUNYUAN_PATHS,
        slice(0, 16),
        uncond=("encoder_hidden_states", "encoder_hidden_states_2"),
    ),
    "hunyuan-image refiner": Network(refiner, _refiner_inputs, HUNYUAN_PATHS, slice(0, 16)),
}
