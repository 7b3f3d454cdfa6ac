"""Runs on networks of `pag.families.class_conditional`."""

from typing import Any

import torch
from diffusers import AutoencoderKL

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline


def vae(levels: int = 1) -> AutoencoderKL:
    """An autoencoder that keeps height and width with one level, and halves them with each one more."""
    torch.manual_seed(2)
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": (8,) * levels,
        "norm_num_groups": 4,
    }
    return AutoencoderKL(**config).eval()


def _dit(name: str = "dit") -> Any:
    return pipeline("DiTPipeline", transformer=strong(NETWORKS[name].make), vae=vae(), scheduler=zoo.ddim())


def _arguments(**arguments: Any) -> dict[str, Any]:
    return {"class_labels": [207, 3], "output_type": "pt"} | arguments


PATH = "transformer_blocks.1.attn1"

RUNS = {
    "DiTPipeline": Run(_dit, _arguments, PATH, groups={4: (2, 0)}, variance=True),
    "DiTPipeline: no CFG": Run(_dit, lambda: _arguments(guidance_scale=1.0), PATH, groups={2: (1, 0)}, variance=True),
    "DiTPipeline: no CFG, equal noise": Run(
        _dit,
        lambda: _arguments(guidance_scale=1.0, generator=[torch.Generator().manual_seed(0) for _ in range(2)]),
        PATH,
        groups={2: (1, 0)},
        variance=True,
    ),
    "DiTPipeline: fixed variance": Run(lambda: _dit("dit: fixed variance"), _arguments, PATH, groups={4: (2, 0)}),
}
