"""Runs on networks of `pag.families.flux2`."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler
from torch import nn

from tests import zoo
from tests.denoisers._network import strong
from tests.denoisers.flux2 import TEXT, klein, make
from tests.runs._run import Run, pipeline
from tests.runs.flux import pil


def vae(**config: Any) -> AutoencoderKLFlux2:
    """An autoencoder of 8×8 pixels to a latent; the pipelines pack 2×2 latents into a token."""
    torch.manual_seed(2)
    tiny: dict[str, Any] = {
        "block_out_channels": (4,) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 1,
    }
    return AutoencoderKLFlux2(**(tiny | config)).eval()


def _pipe(name: str, network: Callable[[], nn.Module]) -> Callable[[], Any]:
    return lambda: pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(),
        transformer=strong(network),
    )


def _embeddings(seed: int) -> torch.Tensor:
    return torch.randn(1, TEXT, 16, generator=torch.Generator().manual_seed(seed))


def _run(name: str, network: Callable[[], nn.Module], given: dict[str, Any], **facts: Any) -> Run:
    def arguments() -> dict[str, Any]:
        return {"prompt_embeds": _embeddings(5), "height": 64, "width": 64} | given

    usual: dict[str, Any] = {"path": "transformer_blocks.1.attn", "image": _all_but_text}
    return Run(_pipe(name, network), arguments, **(usual | facts))


def _all_but_text(queries: int, keys: int) -> tuple[slice, int]:
    return slice(TEXT, queries), 0


def _all_but_references(queries: int, keys: int) -> tuple[slice, int] | None:
    """Their keys and values stand between those of the text and the image; they themselves are not perturbed."""
    return (slice(TEXT, queries), keys - queries) if queries == TEXT + 16 else None


TWO = ("cond", "uncond")
CFG = {"guidance_scale": 4.0, "negative_prompt_embeds": _embeddings(6)}
INPAINT = {
    "image": zoo.picture(size=64),
    "mask_image": (zoo.picture(channels=1, size=64, seed=8) > 0.5).float(),
    "strength": 0.9,
}

RUNS = {
    "Flux2Pipeline": _run("Flux2Pipeline", make, {}),
    "Flux2Pipeline: reference images": _run("Flux2Pipeline", make, {"image": [pil(7, 64), pil(8, 64)]}),
    "Flux2KleinPipeline": _run("Flux2KleinPipeline", klein, CFG, calls=TWO),
    "Flux2KleinPipeline: no CFG": _run("Flux2KleinPipeline", klein, {"guidance_scale": 1.0}),
    "Flux2KleinPipeline: reference image": _run("Flux2KleinPipeline", klein, CFG | {"image": pil(7, 64)}, calls=TWO),
    "Flux2KleinInpaintPipeline": _run("Flux2KleinInpaintPipeline", klein, CFG | INPAINT, calls=TWO, steps=3),
    "Flux2KleinKVPipeline": _run(
        "Flux2KleinKVPipeline", klein, {"image": pil(7, 64)}, image=_all_but_references, steps=3
    ),
    "Flux2KleinKVPipeline: single blocks": _run(
        "Flux2KleinKVPipeline",
        klein,
        {"image": pil(7, 64)},
        path="single_transformer_blocks.0.attn",
        image=_all_but_references,
        steps=3,
    ),
    "Flux2KleinKVPipeline: no reference": _run("Flux2KleinKVPipeline", klein, {}),
}
