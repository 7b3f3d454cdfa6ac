"""Runs on networks of `pag.families.sana`."""

from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaControlNetModel,
    SCMScheduler,
)
from PIL import Image

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.sana import own_value
from tests.runs._run import Run, pipeline
from tests.runs.cross_attention import masked_embeddings
from tests.runs.wan import vae as video_vae


def vae() -> AutoencoderDC:
    """Four levels: 8×8 pixels to one latent."""
    torch.manual_seed(2)
    widths, layers = (8,) * 4, (1,) * 4
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4,
    ).eval()


def _controlnet() -> SanaControlNetModel:
    return SanaControlNetModel(
        patch_size=1,
        in_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
    )


def _sana(name: str, network: str, scheduler: Any = None, **components: Any) -> Any:
    scheduler = scheduler or DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return pipeline(name, transformer=strong(NETWORKS[network].make), scheduler=scheduler, **components)


def _arguments(**arguments: Any) -> dict[str, Any]:
    size = {"height": 64, "width": 64, "use_resolution_binning": False}
    return masked_embeddings() | size | arguments


def _sprint_arguments(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in _arguments(**arguments).items() if not name.startswith("negative")}


def _video_arguments(**arguments: Any) -> dict[str, Any]:
    size = {"height": 32, "width": 32, "frames": 9, "use_resolution_binning": False}
    return masked_embeddings() | size | arguments


def _picture(size: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(7))


def _world() -> Any:
    pipe = _sana("SanaWMPipeline", "sana world model", FlowMatchEulerDiscreteScheduler())
    first = torch.randn(1, 4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    pipe._encode_first_frame = lambda *_: first
    return pipe


def _world_arguments(**arguments: Any) -> dict[str, Any]:
    cameras = np.tile(np.eye(4, dtype=np.float32), (17, 1, 1))
    cameras[:, 2, 3] = np.arange(17) / 8  # it moves forwards
    given = {"image": Image.new("RGB", (64, 64)), "prompt": "", "negative_prompt": "", "c2w": cameras}
    size = {"intrinsics": [64.0, 64.0, 32.0, 32.0], "height": 64, "width": 64, "num_frames": 17}
    return masked_embeddings() | given | size | arguments


PATH = "transformer_blocks.1.attn1"

RUNS = {
    "SanaPipeline": Run(lambda: _sana("SanaPipeline", "sana 1.5", vae=vae()), _arguments, PATH, reference=own_value),
    "SanaPipeline: no CFG, Euler, learned variance": Run(
        lambda: _sana("SanaPipeline", "sana: learned variance", FlowMatchEulerDiscreteScheduler(), vae=vae()),
        lambda: _arguments(guidance_scale=1.0),
        PATH,
        variance=True,
        reference=own_value,
    ),
    "SanaControlNetPipeline": Run(
        lambda: _sana("SanaControlNetPipeline", "sana", vae=vae(), controlnet=strong(_controlnet)),
        lambda: _arguments(control_image=_picture()),
        PATH,
        reference=own_value,
    ),
    "SanaSprintPipeline": Run(
        lambda: _sana("SanaSprintPipeline", "sana sprint", SCMScheduler(), vae=vae()),
        _sprint_arguments,
        PATH,
        reference=own_value,
    ),
    "SanaSprintImg2ImgPipeline": Run(
        lambda: _sana("SanaSprintImg2ImgPipeline", "sana sprint", SCMScheduler(), vae=vae()),
        lambda: _sprint_arguments(image=_picture(), strength=1.0),
        PATH,
        reference=own_value,
    ),
    "SanaVideoPipeline": Run(
        lambda: _sana("SanaVideoPipeline", "sana video", vae=video_vae()),
        _video_arguments,
        PATH,
        reference=own_value,
    ),
    "SanaImageToVideoPipeline": Run(
        lambda: _sana("SanaImageToVideoPipeline", "sana video", FlowMatchEulerDiscreteScheduler(), vae=video_vae()),
        lambda: _video_arguments(image=_picture(32)),
        PATH,
        reference=own_value,
    ),
    "SanaWMPipeline": Run(_world, _world_arguments, "blocks.1.attn"),
    "SanaWMPipeline: no CFG": Run(_world, lambda: _world_arguments(guidance_scale=1.0), "blocks.1.attn"),
}
