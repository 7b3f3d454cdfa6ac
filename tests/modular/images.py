"""Modular pipelines of images."""

from typing import Any

import torch
from diffusers import ControlNetUnionModel, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.qwen import image_21
from tests.modular._run import ModularRun

TEXT = 5
SDXL_LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1"


def noise(seed: int, *shape: int) -> Tensor:
    """Embeddings of a prompt that nobody wrote."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeddings(text: int = TEXT, width: int = 16) -> dict[str, Any]:
    """Those of a prompt and of a negative prompt."""
    return {"prompt_embeds": noise(1, 1, text, width), "negative_prompt_embeds": noise(2, 1, text, width)}


def pooled(width: int = 16) -> dict[str, Any]:
    """The same as one vector."""
    return {"pooled_prompt_embeds": noise(3, 1, width), "negative_pooled_prompt_embeds": noise(4, 1, width)}


def masked(length: int = 4, text: int = TEXT) -> dict[str, Any]:
    """Embeddings with padding, and what is none."""
    mask = (torch.arange(text) < length)[None]
    return embeddings(text) | {"prompt_embeds_mask": mask, "negative_prompt_embeds_mask": torch.ones_like(mask)}


def transformer(name: str) -> dict[str, Any]:
    """A denoiser and the scheduler of most transformers."""
    return {"transformer": strong(NETWORKS[name].make), "scheduler": FlowMatchEulerDiscreteScheduler()}


def pixels(size: int) -> dict[str, int]:
    """Height and width."""
    return {"height": size, "width": size}


def _sdxl() -> dict[str, Any]:
    return {"unet": strong(NETWORKS["sdxl"].make), "scheduler": EulerDiscreteScheduler()}


def _lists(width: int = 16) -> dict[str, Any]:
    return {"prompt_embeds": [noise(1, TEXT, width)], "negative_prompt_embeds": [noise(2, TEXT + 1, width)]}


def _images_in_text() -> dict[str, Any]:
    none = torch.zeros(1, TEXT, dtype=torch.bool)
    return {"image_pad_mask": none, "negative_image_pad_mask": none, "use_kv_cache": False}


def _controlled(**arguments: Any) -> dict[str, Any]:
    picture = noise(5, 1, 3, 64, 64)
    return embeddings() | pooled() | pixels(64) | {"control_image": picture} | arguments


def _two_layers() -> dict[str, Any]:
    """Embeddings that are taken from two layers of a text encoder."""
    return {"prompt_embeds": noise(1, 1, TEXT, 2, 16), "negative_prompt_embeds": noise(2, 1, TEXT, 2, 16)}


_EIGHTH: dict[str, Any] = {"kind": "sdxl", "conditioning_embedding_out_channels": (8,) * 4}


def _with_controlnet() -> dict[str, Any]:
    return _sdxl() | {"controlnet": zoo.controlnet(**_EIGHTH)}


def _with_union() -> dict[str, Any]:
    sizes = {"num_trans_channel": 16, "num_trans_head": 2, "num_proj_channel": 16}
    union = zoo.controlnet(cls=ControlNetUnionModel, **sizes, **_EIGHTH)
    return _sdxl() | {"controlnet": union}


class _Conditioner(torch.nn.Module):
    """What stands for a network that makes one embedding of two."""

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, source_hidden_states: Tensor, **given: Any) -> Tensor:
        return source_hidden_states


def _two_texts() -> dict[str, Any]:
    mask, ids = torch.ones(1, TEXT), torch.zeros(1, TEXT, dtype=torch.long)
    given: dict[str, Any] = {}
    for seed, prefix in enumerate(("", "negative_")):
        given[f"{prefix}qwen_prompt_embeds"] = noise(seed, 1, TEXT, 16)
        given |= {f"{prefix}qwen_attention_mask": mask, f"{prefix}t5_attention_mask": mask}
        given[f"{prefix}t5_input_ids"] = ids
    return given


RUNS = {
    "StableDiffusionXLAutoBlocks": ModularRun(
        "StableDiffusionXLAutoBlocks", _sdxl, lambda: embeddings() | pooled() | pixels(64), SDXL_LAYER
    ),
    "StableDiffusionXLAutoBlocks: ControlNet": ModularRun(
        "StableDiffusionXLAutoBlocks", _with_controlnet, _controlled, SDXL_LAYER
    ),
    "StableDiffusionXLAutoBlocks: ControlNet's guess mode": ModularRun(
        "StableDiffusionXLAutoBlocks", _with_controlnet, lambda: _controlled(guess_mode=True), SDXL_LAYER
    ),
    "StableDiffusionXLAutoBlocks: ControlNet-Union": ModularRun(
        "StableDiffusionXLAutoBlocks", _with_union, lambda: _controlled(control_mode=[1]), SDXL_LAYER
    ),
    "AnimaAutoBlocks": ModularRun(
        "AnimaAutoBlocks",
        lambda: transformer("cosmos") | {"text_conditioner": _Conditioner()},
        lambda: _two_texts() | pixels(64),
        "transformer_blocks.1.attn1",
    ),
    "StableDiffusion3AutoBlocks": ModularRun(
        "StableDiffusion3AutoBlocks",
        lambda: transformer("sd3"),
        lambda: embeddings() | pooled() | pixels(64),
        "transformer_blocks.1.attn",
        slice(0, 16),
    ),
    "QwenImageAutoBlocks": ModularRun(
        "QwenImageAutoBlocks",
        lambda: transformer("qwen"),
        lambda: masked() | pixels(64),
        "transformer_blocks.1.attn",
        slice(TEXT, TEXT + 16),
    ),
    "QwenImageEditAutoBlocks": ModularRun(
        "QwenImageEditAutoBlocks",
        lambda: transformer("qwen edit"),
        lambda: masked() | pixels(64) | {"image_latents": noise(5, 1, 4, 1, 4, 8)},
        "transformer_blocks.1.attn",
        slice(TEXT, TEXT + 16),
    ),
    "QwenImageEditPlusAutoBlocks": ModularRun(
        "QwenImageEditPlusAutoBlocks",
        lambda: transformer("qwen edit"),
        lambda: masked() | pixels(64) | {"image_latents": [noise(5, 1, 4, 1, 4, 8), noise(6, 1, 4, 1, 4, 4)]},
        "transformer_blocks.1.attn",
        slice(TEXT, TEXT + 16),
    ),
    "QwenImageLayeredAutoBlocks": ModularRun(
        "QwenImageLayeredAutoBlocks",
        lambda: transformer("qwen layered"),
        lambda: masked() | {"layers": 2, "image_latents": noise(5, 1, 1, 4, 4, 4)},
        "transformer_blocks.1.attn",
        slice(TEXT, TEXT + 12),
    ),
    "QwenImage21AutoBlocks": ModularRun(
        "QwenImage21AutoBlocks",
        lambda: transformer("qwen 2.1"),
        lambda: masked() | pixels(64) | _images_in_text(),
        "transformer_blocks.1.attn",
        image_21(TEXT),
    ),
    "Flux2KleinBaseAutoBlocks": ModularRun(
        "Flux2KleinBaseAutoBlocks",
        lambda: transformer("flux2: klein"),
        lambda: embeddings() | pixels(64),
        "single_transformer_blocks.0.attn",
        slice(TEXT, TEXT + 16),
    ),
    "ZImageAutoBlocks": ModularRun(
        "ZImageAutoBlocks",
        lambda: transformer("z-image"),
        lambda: _lists() | pixels(64),
        "layers.0.attention",
        slice(0, 16),
    ),
    "Krea2AutoBlocks": ModularRun(
        "Krea2AutoBlocks",
        lambda: transformer("krea"),
        lambda: masked() | _two_layers() | pixels(64),
        "transformer_blocks.1.attn",
        slice(TEXT, TEXT + 16),
    ),
    "ErnieImageAutoBlocks": ModularRun(
        "ErnieImageAutoBlocks",
        lambda: transformer("ernie"),
        lambda: _lists() | pixels(64),
        "layers.1.self_attention",
        slice(0, 16),
    ),
    "Flux3AutoBlocks": ModularRun(
        "Flux3AutoBlocks",
        lambda: transformer("flux3"),
        lambda: embeddings() | pixels(64),
        "single_transformer_blocks.1.attn",
        slice(TEXT, TEXT + 16),
    ),
}
