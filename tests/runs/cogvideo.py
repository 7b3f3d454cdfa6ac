"""Runs on networks of `pag.families.cogvideo`."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline
from tests.runs.wan import image, video

TEXT = 5
PATH = "transformer_blocks.1.attn1"


def _vae() -> AutoencoderKLCogVideoX:
    """4 frames to 1 (the first stays alone), 8×8 pixels to one latent."""
    torch.manual_seed(2)
    blocks: dict[str, Any] = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "block_out_channels": (8,) * 4,
        "layers_per_block": 1,
    }
    return AutoencoderKLCogVideoX(latent_channels=4, norm_num_groups=2, **blocks).eval()


def _cog(name: str, network: str = "cogvideox", scheduler: Any = None) -> Any:
    return pipeline(
        name,
        vae=_vae(),
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction") if scheduler is None else scheduler,
        transformer=strong(NETWORKS[network].make),
    )


def _text(**arguments: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeddings = {name: torch.randn(1, TEXT, 16, generator=generator) for name in names}
    return embeddings | {"height": 32, "width": 32} | arguments


def _mochi() -> Any:
    return pipeline(
        "MochiPipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        transformer=strong(NETWORKS["mochi"].make),
    )


def _mochi_text(**arguments: Any) -> dict[str, Any]:
    """Prompts of three and of five tokens."""
    masks = {
        "prompt_attention_mask": torch.tensor([[1, 1, 1, 0, 0]]),
        "negative_prompt_attention_mask": torch.ones(1, TEXT, dtype=torch.long),
    }
    return _text(num_frames=13) | masks | arguments


IMAGE = slice(TEXT, TEXT + 12)

RUNS = {
    "CogVideoXPipeline": Run(lambda: _cog("CogVideoXPipeline"), lambda: _text(num_frames=9), PATH, IMAGE),
    "CogVideoXPipeline: no CFG": Run(
        lambda: _cog("CogVideoXPipeline"), lambda: _text(num_frames=9, guidance_scale=1.0), PATH, IMAGE
    ),
    "CogVideoXPipeline: dynamic CFG, DPM": Run(
        lambda: _cog("CogVideoXPipeline", scheduler=CogVideoXDPMScheduler(prediction_type="v_prediction")),
        lambda: _text(num_frames=9, use_dynamic_cfg=True),
        PATH,
        IMAGE,
        steps=3,
    ),
    "CogVideoXImageToVideoPipeline": Run(
        lambda: _cog("CogVideoXImageToVideoPipeline", "cogvideox from an image"),
        lambda: _text(num_frames=9, image=image()),
        PATH,
        IMAGE,
    ),
    "CogVideoXImageToVideoPipeline: 1.5": Run(
        lambda: _cog("CogVideoXImageToVideoPipeline", "cogvideox 1.5 from an image"),
        lambda: _text(num_frames=9, image=image()),
        PATH,
        slice(TEXT, TEXT + 8),
    ),
    "CogVideoXVideoToVideoPipeline": Run(
        lambda: _cog("CogVideoXVideoToVideoPipeline", "cogvideox with rotary embeddings"),
        lambda: _text(video=video(9)),
        PATH,
        IMAGE,
        steps=4,
    ),
    "CogVideoXFunControlPipeline": Run(
        lambda: _cog("CogVideoXFunControlPipeline", "cogvideox from an image"),
        lambda: _text(control_video=video(9)),
        PATH,
        IMAGE,
    ),
    "MochiPipeline": Run(_mochi, _mochi_text, PATH, slice(0, 12)),
    "MochiPipeline: no CFG": Run(_mochi, lambda: _mochi_text(guidance_scale=1.0), PATH, slice(0, 12)),
}
