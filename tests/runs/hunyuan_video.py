"""Runs on networks of `pag.families.hunyuan_video`."""

from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.hunyuan_video import IMAGE, TEXT
from tests.runs._run import Run, pipeline

PATH = "transformer_blocks.1.attn"


def vae() -> AutoencoderKLHunyuanVideo:
    """HunyuanVideo's autoencoder: 4 frames to 1 (the first stays alone), 8×8 pixels to one latent."""
    torch.manual_seed(2)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


def embeddings(prefix: str, seed: int) -> dict[str, Any]:
    """Embeddings of a prompt with padding at its end."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        f"{prefix}pooled_prompt_embeds": torch.randn(1, 8, generator=generator),
        f"{prefix}prompt_attention_mask": (torch.arange(TEXT) < seed - 2)[None].float(),
    }


def _arguments() -> dict[str, Any]:
    return embeddings("", 5) | {"height": 32, "width": 32, "num_frames": 9}


def _true_cfg() -> dict[str, Any]:
    return _arguments() | embeddings("negative_", 6) | {"true_cfg_scale": 4.0}


def _hunyuan_video() -> Any:
    return pipeline(
        "HunyuanVideoPipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS["hunyuan_video"].make),
    )


RUNS = {
    "HunyuanVideoPipeline": Run(_hunyuan_video, _arguments, PATH, IMAGE),
    "HunyuanVideoPipeline: true CFG": Run(_hunyuan_video, _true_cfg, PATH, IMAGE, calls=("cond", "uncond")),
}
