"""Assemble the trained parts into a Stable Diffusion folder (half precision), swapped in place atomically."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from data import HERE, WORK
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from train_unet import SCHEDULE, Denoiser
from transformers import CLIPTokenizer

TARGET = HERE.parents[1] / "src/pag/assets/avatars"


def pipeline(checkpoint: Path) -> StableDiffusionPipeline:
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    model = Denoiser(tokenizer)
    model.load_state_dict(torch.load(checkpoint)["ema"])
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae"),
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path, default=WORK / "unet.pt")
    parser.add_argument("--target", type=Path, default=TARGET)
    args = parser.parse_args()
    fresh = args.target.with_name(args.target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline(args.checkpoint).to(torch.float16).save_pretrained(fresh)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(WORK / "tokenizer" / name, fresh / "tokenizer")
    for file in fresh.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    if (card := args.target / "README.md").exists():
        shutil.copy(card, fresh)
    old = args.target.with_name(args.target.name + ".old")
    if args.target.exists():
        args.target.rename(old)
    fresh.rename(args.target)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(f.stat().st_size for f in args.target.rglob("*") if f.is_file())
    print(f"{args.target.name}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
