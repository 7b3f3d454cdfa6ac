"""Runs on networks of `pag.families.wan`."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline


def vae() -> AutoencoderKLWan:
    """Wan's autoencoder: 4 frames to 1 (the first stays alone), 8×8 pixels to one latent."""
    torch.manual_seed(2)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def _wan() -> Any:
    return pipeline(
        "WanPipeline",
        vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS["wan"].make),
    )


def _arguments() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeddings = {name: torch.randn(1, 5, 16, generator=generator) for name in names}
    return embeddings | {"height": 32, "width": 32, "num_frames": 9}


RUNS = {
    "WanPipeline": Run(_wan, _arguments, "blocks.1.attn1", calls=("cond", "uncond")),
    "WanPipeline: no CFG": Run(_wan, lambda: _arguments() | {"guidance_scale": 1.0}, "blocks.1.attn1"),
}
