"""What is paid for how much of the exact image: cheaper guidance on the embedded model."""

import statistics
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionPipeline,
)
from torch import Tensor

import pag
from benchmarks.judge import RECIPE, Gallery, perceptual, psnr
from benchmarks.operations import Operations
from benchmarks.speed import Part
from pag.reuse import SPEEDS

G, S = 3.0, 2.0
EXACT, CFG, NONE, FAST = "CFG + PAG, exact", "CFG", "no guidance", "fast"
METHODS: dict[str, dict[str, Any] | None] = {
    EXACT: {},
    CFG: None,
    "PAG every 2nd step": {"reuse": pag.Reuse(pag=2)},
    "both every 2nd": {"reuse": pag.Reuse(pag=2, cfg=2)},
    "both every 3rd": {"reuse": pag.Reuse(pag=3, cfg=3)},
    FAST: {"speed": "fast"},
    "fast without repaying": {"reuse": replace(SPEEDS["fast"], repay=0.0)},  # pyright: ignore
    "both every 6th": {"reuse": pag.Reuse(pag=6, cfg=6)},
    "gate at 0.99": {"reuse": pag.Reuse(gate=0.99)},
    "gate at 0.98": {"reuse": pag.Reuse(gate=0.98)},
    "PAG in the first half": {"stop": 0.5},
    "PAG in the middle": {"start": 0.2, "stop": 0.8},
}
"""Settings of :func:`pag.guide`, None for none."""
JUDGED = (NONE, CFG, EXACT, FAST)
"""Those whose images are judged by themselves."""

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "ddim": DDIMScheduler.from_config,
    "euler": EulerDiscreteScheduler.from_config,
    "dpm": DPMSolverMultistepScheduler.from_config,
    "heun": HeunDiscreteScheduler.from_config,
}
STEPS = (10, 25, 50)
BATCH = 25
IMAGES = {10: 300, 25: 300, 50: 150}
"""By the number of steps, how many are judged by themselves: fewer where one takes longest."""


def fidelity(scheduler: str, steps: int, small: bool) -> dict[str, Any]:
    """Distance of each method's images from the exact ones, and its operations."""
    prompts = (RECIPE / "prompts.txt").read_text().splitlines()[: 2 if small else 16]
    steps = 2 if small else steps
    forwards, images = _drawn(METHODS, scheduler, steps, prompts)
    methods = {
        name: {
            "forwards": forwards[name],
            "psnr": psnr(images[name], images[EXACT]),
            "perceptual": perceptual(images[name], images[EXACT]),
        }
        for name in METHODS
    }
    return {"scheduler": scheduler, "steps": steps, "images": len(prompts), "g": G, "s": S, "methods": methods}


def quality(scheduler: str, steps: int, small: bool) -> dict[str, Any]:
    """Fréchet distance and attributes of each method's images, the same prompts and seeds for all.

    As many real images tell what is the least distance that so few can have.
    """
    count, steps = (4, 2) if small else (IMAGES[steps], steps)
    gallery = Gallery(reference=50 if small else 2000)
    prompts = gallery.prompts(count)
    forwards, images = _drawn(JUDGED, scheduler, steps, prompts)
    methods = {
        name: {
            "forwards": forwards[name],
            "psnr": psnr(images[name], images[EXACT]),
            **gallery.judge(images[name]),
        }
        for name in JUDGED
    }
    about = {"scheduler": scheduler, "steps": steps, "images": count, "g": G, "s": S}
    return about | {"real": gallery.real(count), "methods": methods}


@cache
def _pipe(scheduler: str) -> Any:
    parts = pag.demo_pipeline().components
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.scheduler = SCHEDULERS[scheduler](pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _drawn(
    methods: Iterable[str], scheduler: str, steps: int, prompts: list[str]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """By method, operations of an image in units of one without guidance, and images."""
    with Operations() as alone:
        latents(NONE, scheduler, steps, prompts[:1], 0)
    forwards: dict[str, float] = {}
    images: dict[str, Tensor] = {}
    for method in methods:
        with Operations() as operations:
            found = [
                latents(method, scheduler, steps, prompts[at : at + BATCH], at) for at in range(0, len(prompts), BATCH)
            ]
        forwards[method] = operations.count / len(prompts) / alone.count
        images[method] = torch.cat([_decoded(one) for one in found])
    return forwards, images


def latents(method: str, scheduler: str, steps: int, prompts: list[str], seed: int) -> Tensor:
    """Latents of prompts, each from a seed of its own."""
    pipe, settings = _pipe(scheduler), METHODS.get(method)
    seeds = [torch.Generator().manual_seed(seed + index) for index in range(len(prompts))]
    guided = nullcontext() if settings is None else pag.guide(pipe, S, layers="mid", **settings)
    with guided:
        return pipe(
            prompts,
            guidance_scale=1.0 if method == NONE else G,
            num_inference_steps=steps,
            generator=seeds,
            output_type="latent",
        ).images


def _decoded(latents: Tensor) -> Tensor:
    """Images in [0, 1]."""
    vae = _pipe("ddim").vae
    return (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def summary(method: dict[str, Any]) -> dict[str, float]:
    """Means of a method's images: dB, distance."""
    return {name: statistics.mean(method[name]) for name in ("psnr", "perceptual") if method.get(name)}


PARTS: dict[str, Part] = {
    f"{part.__name__}-{scheduler}-{steps}": partial(part, scheduler, steps)
    for part in (fidelity, quality)
    for steps in (25, 10, 50)
    for scheduler in SCHEDULERS
}
