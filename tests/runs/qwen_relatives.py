"""Runs on networks of `pag.families.qwen_relatives`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.qwen_relatives import TEXT, image_ahead
from tests.runs._run import Run, pipeline
from tests.runs.qwen import picture

G, IMAGE = 4.0, slice(0, 16)


class Coarse(torch.nn.Module):
    """What stands for an autoencoder: 8×8 pixels to one latent."""

    config = SimpleNamespace(
        scale_factor_spatial=8, scale_factor_temporal=4, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    dtype, device = torch.float32, torch.device("cpu")

    def encode(self, image: Tensor) -> SimpleNamespace:
        """Means over the pixels."""
        latents = F.avg_pool2d(image[:, :, 0], 8)[:, [0, 1, 2, 0], None]
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents, sample=lambda: latents))


def _embeddings(*names: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    arguments: dict[str, Any] = {}
    for name in names:
        arguments[f"{name}prompt_embeds"] = torch.randn(1, TEXT, 16, generator=generator)
        mask = torch.ones(1, TEXT, dtype=torch.bool)
        mask[0, 3 + len(name) // 9 :] = False
        arguments[f"{name}prompt_embeds_mask"] = mask
    return arguments


def _size(image: Image.Image, *given: Any) -> tuple[int, int]:
    """Images stay as small as they are, which the pipelines do not let them."""
    return image.size


def _joy() -> Any:
    pipe = _pipe("JoyImageEditPipeline", "joy", vae=Coarse())
    pipe.vae_image_processor.get_default_height_width = _size
    return pipe


def _joy_plus() -> Any:
    pipe = _pipe("JoyImageEditPlusPipeline", "joy plus", vae=Coarse())
    pipe.image_processor.get_default_height_width = _size

    def encode(prompt: list[str], **given: Any) -> tuple[Tensor, Tensor]:
        both = _embeddings("", "negative_")
        name = "negative_" if "not this" in prompt[0] else ""
        return both[f"{name}prompt_embeds"], both[f"{name}prompt_embeds_mask"]

    pipe.encode_prompt_multiple_images = encode
    return pipe


def _pipe(name: str, network: str, **components: Any) -> Any:
    known: dict[str, Any] = {"scheduler": FlowMatchEulerDiscreteScheduler()}
    return pipeline(name, transformer=strong(NETWORKS[network].make), **(known | components))


def _nucleus() -> Any:
    return _pipe(
        "NucleusMoEImagePipeline", "nucleus", scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _edit() -> dict[str, Any]:
    return _embeddings("", "negative_") | {"image": picture(), "guidance_scale": G}


def _edit_plus(**given: Any) -> dict[str, Any]:
    texts = {"prompt": "a picture", "negative_prompt": "not this"}
    return texts | {"images": [picture(32), picture(16)], "height": 64, "width": 64, "guidance_scale": G} | given


_TWO_CALLS: dict[str, Any] = {"calls": ("cond", "uncond"), "g": G, "norm": True}

RUNS = {
    "JoyImageEditPipeline": Run(_joy, _edit, "double_blocks.1.attn", IMAGE, **_TWO_CALLS),
    "JoyImageEditPlusPipeline": Run(_joy_plus, _edit_plus, "double_blocks.1.attn", IMAGE, g=G, norm=True),
    "JoyImageEditPlusPipeline: no CFG": Run(
        _joy_plus, lambda: _edit_plus(guidance_scale=1.0), "double_blocks.1.attn", IMAGE
    ),
    "NucleusMoEImagePipeline": Run(
        _nucleus,
        lambda: _embeddings("", "negative_") | {"height": 64, "width": 64, "guidance_scale": G},
        "transformer_blocks.1.attn",
        image_ahead,
        **_TWO_CALLS,
    ),
}
