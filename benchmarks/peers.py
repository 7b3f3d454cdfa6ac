"""Time of guided sampling against diffusers' own PAG pipeline, CFG alone and no guidance: ``make bench``.

A full-size architecture with random weights, the same work for each contender, all in one run: their turns interleave,
and what is told is the median of several. Results go to `benchmarks/results` with the commit and the machine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

import pag

RESULTS = Path(__file__).parent / "results"
Call = Callable[[], Any]


def components() -> dict[str, Any]:
    """The U-Net of Stable Diffusion 1.5 with random weights; the autoencoder is not run."""
    torch.manual_seed(0)
    return {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval(),
        "vae": AutoencoderKL(
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ).eval(),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        "text_encoder": None,
        "tokenizer": None,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def contenders(size: int, batch: int, steps: int) -> dict[str, Call]:
    """What is timed, by name."""
    parts = components()
    plain, peer = StableDiffusionPipeline(**parts), StableDiffusionPAGPipeline(**parts)
    text = {name: torch.randn(batch, 77, 768) for name in ("prompt_embeds", "negative_prompt_embeds")}

    def run(pipe: Any, g: float, **more: Any) -> Any:
        pipe.set_progress_bar_config(disable=True)
        given: dict[str, Any] = {"height": size, "width": size, "num_inference_steps": steps, "output_type": "latent"}
        return pipe(**text, **given, guidance_scale=g, generator=torch.Generator().manual_seed(0), **more).images

    def ours(g: float) -> Any:
        with pag.guide(plain, 3.0, layers="mid"):
            return run(plain, g)

    return {
        "no guidance": lambda: run(plain, 0.0),
        "CFG": lambda: run(plain, 5.0),
        "PAG, diffusers": lambda: run(peer, 0.0, pag_scale=3.0),
        "PAG, here": lambda: ours(0.0),
        "CFG + PAG, diffusers": lambda: run(peer, 5.0, pag_scale=3.0),
        "CFG + PAG, here": lambda: ours(5.0),
    }


def measure(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    calls = contenders(options.size, options.batch, options.steps)
    ours, theirs = calls["CFG + PAG, here"](), calls["CFG + PAG, diffusers"]()
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    assert error < 1e-4, f"the contenders do not compute the same: {error}"
    seconds = measure(calls, options.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "model": "UNet of Stable Diffusion 1.5, random weights, layer mid",
        **vars(options),
        "seconds": seconds,
        "ratio to the peer": {
            "PAG": medians["PAG, here"] / medians["PAG, diffusers"],
            "CFG + PAG": medians["CFG + PAG, here"] / medians["CFG + PAG, diffusers"],
        },
        "ratio of counted operations at 512 pixels": {"PAG": _counted(False), "CFG + PAG": _counted(True)},
        "largest relative difference of the latents": error,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, CPU, float32",
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__, "pag": pag.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"sd15-{options.size}-batch{options.batch}-cpu.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    for name, values in seconds.items():
        print(f"{name:22} {medians[name]:7.2f} s  ({min(values):.2f} to {max(values):.2f})")
    print(json.dumps(result["ratio to the peer"]), "->", file)


def _counted(cfg: bool) -> float:
    with torch.device("meta"):
        cost = pag.cost(UNet2DConditionModel(sample_size=64, cross_attention_dim=768), "mid", cfg=cfg)
    return cost.executed / cost.rows


if __name__ == "__main__":
    main()
