"""Runs on networks of `pag.families.sd3`."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3ControlNetModel
from torch import nn

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.sd3 import CONFIG, TEXT, ip_image, make, with_ip_adapter
from tests.runs._run import Run, pipeline

PATH, IMAGE = "transformer_blocks.1.attn", slice(0, 16)


def _pipe(name: str, network: str = "sd3", **components: Any) -> Callable[[], Any]:
    return lambda: pipeline(
        name,
        **{
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
            "vae": zoo.vae(shift_factor=0.1),
            "transformer": strong(NETWORKS[network].make),
        }
        | {part: build() for part, build in components.items()},
    )


def _controlnet(**config: Any) -> nn.Module:
    tiny: dict[str, Any] = CONFIG | {"num_layers": 2} | config
    return strong(lambda: SD3ControlNetModel(**tiny))


def embeddings(text: int = TEXT) -> dict[str, Any]:
    """Embeddings of a prompt and of a negative prompt."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"prompt_embeds": (1, text, 16), "pooled_prompt_embeds": (1, 16)}
    arguments = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return arguments | {f"negative_{name}": torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def _arguments(**given: Any) -> Callable[[], dict[str, Any]]:
    return lambda: embeddings() | given


PICTURE = zoo.picture(size=16)
MASK = (zoo.picture(channels=1, size=16, seed=8) > 0.5).float()
IP_EMBEDS = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(7))

RUNS = {
    "StableDiffusion3Pipeline": Run(_pipe("StableDiffusion3Pipeline"), _arguments(), PATH, IMAGE),
    "StableDiffusion3Pipeline: no CFG": Run(
        _pipe("StableDiffusion3Pipeline"), _arguments(guidance_scale=1.0), PATH, IMAGE
    ),
    "StableDiffusion3Pipeline: 3.5": Run(_pipe("StableDiffusion3Pipeline", "sd35"), _arguments(), PATH, IMAGE),
    "StableDiffusion3Pipeline: 3.5, the second attention": Run(
        _pipe("StableDiffusion3Pipeline", "sd35"), _arguments(), "transformer_blocks.1.attn2"
    ),
    "StableDiffusion3Pipeline: skipped layers": Run(
        _pipe("StableDiffusion3Pipeline"),
        _arguments(
            skip_guidance_layers=[2],
            skip_layer_guidance_start=0.1,
            skip_layer_guidance_stop=0.9,
            num_inference_steps=3,
        ),
        PATH,
        IMAGE,
        aside=("skip_layers",),
    ),
    "StableDiffusion3Pipeline: IP-Adapter": Run(
        _pipe("StableDiffusion3Pipeline", transformer=lambda: strong(with_ip_adapter)),
        _arguments(ip_adapter_image_embeds=IP_EMBEDS),
        PATH,
        ip_image,
    ),
    "StableDiffusion3Img2ImgPipeline": Run(
        _pipe("StableDiffusion3Img2ImgPipeline"), _arguments(image=PICTURE, strength=0.9), PATH, IMAGE, steps=3
    ),
    "StableDiffusion3InpaintPipeline": Run(
        _pipe(
            "StableDiffusion3InpaintPipeline",
            vae=lambda: zoo.vae(shift_factor=0.1, latent_channels=16),
            transformer=lambda: strong(lambda: make(in_channels=16, out_channels=16)),
        ),
        _arguments(image=PICTURE, mask_image=MASK, strength=0.9),
        PATH,
        IMAGE,
        steps=3,
    ),
    "StableDiffusion3InpaintPipeline: masks in its channels": Run(
        _pipe(
            "StableDiffusion3InpaintPipeline",
            vae=lambda: zoo.vae(shift_factor=0.1, latent_channels=16),
            transformer=lambda: strong(lambda: make(in_channels=33, out_channels=16)),
        ),
        _arguments(image=PICTURE, mask_image=MASK, strength=0.9),
        PATH,
        IMAGE,
        steps=3,
    ),
    "StableDiffusion3ControlNetPipeline": Run(
        _pipe("StableDiffusion3ControlNetPipeline", controlnet=_controlnet),
        _arguments(control_image=PICTURE),
        PATH,
        IMAGE,
    ),
    "StableDiffusion3ControlNetInpaintingPipeline": Run(
        _pipe(
            "StableDiffusion3ControlNetInpaintingPipeline",
            controlnet=lambda: _controlnet(extra_conditioning_channels=1),
        ),
        _arguments(control_image=PICTURE, control_mask=MASK),
        PATH,
        IMAGE,
    ),
}
