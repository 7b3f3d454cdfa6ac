"""Runs on networks of `pag.families.two_stacks`."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.two_stacks import TEXT
from tests.runs._run import Run, pipeline
from tests.runs.single_stream import vae

PATH, IMAGE = "transformer_blocks.1.attn", slice(0, 16)
CALLS = ("cond", "uncond")


class Compression(torch.nn.Module):
    """What stands for an autoencoder that is asked for its factors only: a pixel is a latent."""

    config = SimpleNamespace(spatial_compression_ratio=1, temporal_compression_ratio=1, latent_channels=4)
    dtype, device = torch.float32, torch.device("cpu")


def _hidream() -> Any:
    pipe = pipeline(
        "HiDreamImagePipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(),
        transformer=strong(NETWORKS["hidream"].make),
    )
    pipe.default_sample_size = 8  # it brings every image to the number of pixels of this one
    return pipe


def _hidream_arguments(**given: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    arguments: dict[str, Any] = {"height": 8, "width": 8}
    for name in ("", "negative_"):
        arguments[f"{name}prompt_embeds_t5"] = torch.randn(1, TEXT, 16, generator=generator)
        arguments[f"{name}prompt_embeds_llama3"] = torch.randn(2, 1, 3, 12, generator=generator)
        arguments[f"{name}pooled_prompt_embeds"] = torch.randn(1, 16, generator=generator)
    return arguments | given


def _hunyuan(name: str, network: str, guider: Any = None) -> Any:
    return pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=Compression(),
        transformer=strong(NETWORKS[network].make),
        guider=guider,
    )


def _hunyuan_arguments(second: bool = True, **given: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    arguments: dict[str, Any] = {"height": 4, "width": 4}
    for name in ("", "negative_"):
        arguments[f"{name}prompt_embeds"] = torch.randn(1, TEXT, 16, generator=generator)
        mask = torch.ones(1, TEXT)
        mask[0, 3 + len(name) // 9 :] = 0
        arguments[f"{name}prompt_embeds_mask"] = mask
        if second:
            arguments[f"{name}prompt_embeds_2"] = torch.randn(1, 3, 12, generator=generator)
            arguments[f"{name}prompt_embeds_mask_2"] = torch.ones(1, 3)
    return arguments | given


def _refined() -> dict[str, Any]:
    image = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(6))
    return _hunyuan_arguments(second=False, image=image)


RUNS = {
    "HiDreamImagePipeline": Run(_hidream, _hidream_arguments, "double_stream_blocks.1.block.attn1", IMAGE),
    "HiDreamImagePipeline: no CFG": Run(
        _hidream, lambda: _hidream_arguments(guidance_scale=1.0), "single_stream_blocks.0.block.attn1", IMAGE
    ),
    "HunyuanImagePipeline": Run(
        lambda: _hunyuan("HunyuanImagePipeline", "hunyuan-image", ClassifierFreeGuidance(guidance_scale=3.5)),
        _hunyuan_arguments,
        PATH,
        IMAGE,
        calls=CALLS,
    ),
    "HunyuanImagePipeline: no guider": Run(
        lambda: _hunyuan("HunyuanImagePipeline", "hunyuan-image"), _hunyuan_arguments, PATH, IMAGE
    ),
    "HunyuanImageRefinerPipeline": Run(
        lambda: _hunyuan("HunyuanImageRefinerPipeline", "hunyuan-image refiner"), _refined, PATH, IMAGE
    ),
}
