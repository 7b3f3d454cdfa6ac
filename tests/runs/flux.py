"""Runs on networks of `pag.families.flux`."""

from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline

TEXT = 5


def vae() -> AutoencoderKL:
    """An autoencoder that keeps height and width; the pipelines pack 2×2 latents into a token."""
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=1, use_quant_conv=False, use_post_quant_conv=False
    ).eval()


def embeddings(name: str, seed: int) -> dict[str, Any]:
    """Embeddings of a prompt: a name's prefix is ``""`` or ``"negative_"``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        f"{name}pooled_prompt_embeds": torch.randn(1, 16, generator=generator),
    }


def _flux() -> Any:
    return pipeline(
        "FluxPipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        transformer=strong(NETWORKS["flux"].make),
    )


PATH, IMAGE = "transformer_blocks.1.attn", slice(TEXT, TEXT + 16)

RUNS = {
    "FluxPipeline": Run(_flux, lambda: embeddings("", 5) | {"height": 8, "width": 8}, PATH, IMAGE),
    "FluxPipeline: true CFG": Run(
        _flux,
        lambda: embeddings("", 5) | embeddings("negative_", 6) | {"height": 8, "width": 8, "true_cfg_scale": 4.0},
        PATH,
        IMAGE,
        calls=("cond", "uncond"),
    ),
}
