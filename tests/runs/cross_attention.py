"""Runs on networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import DDIMScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline

TEXT = 5


def masked_embeddings(*names: str, width: int = 16) -> dict[str, Any]:
    """Embeddings of a prompt, with a mask, and of a negative prompt of another length."""
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"negative_prompt": None}
    for name, length in zip(("prompt", "negative_prompt"), (TEXT, TEXT - 2), strict=True):
        given[f"{name}_embeds"] = torch.randn(1, TEXT, width, generator=generator)
        given[f"{name}_attention_mask"] = (torch.arange(TEXT) < length).long()[None]
    return given


def _pixart(name: str, network: str) -> Any:
    return pipeline(name, transformer=strong(NETWORKS[network].make), scheduler=DDIMScheduler())


def _pixart_arguments(**arguments: Any) -> dict[str, Any]:
    size = {"height": 64, "width": 64, "use_resolution_binning": False, "clean_caption": False}
    return masked_embeddings() | size | arguments


PATH = "transformer_blocks.1.attn1"

RUNS = {
    "PixArtAlphaPipeline": Run(lambda: _pixart("PixArtAlphaPipeline", "pixart: sizes"), _pixart_arguments, PATH),
    "PixArtSigmaPipeline": Run(
        lambda: _pixart("PixArtSigmaPipeline", "pixart"), _pixart_arguments, PATH, variance=True
    ),
    "PixArtSigmaPipeline: no CFG": Run(
        lambda: _pixart("PixArtSigmaPipeline", "pixart"),
        lambda: _pixart_arguments(guidance_scale=1.0),
        PATH,
        variance=True,
    ),
}
