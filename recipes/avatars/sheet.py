"""Draw a sheet of the show prompts: ``python sheet.py out.png --guidance 3 --pag 2``."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from data import HERE
from diffusers import StableDiffusionPAGPipeline
from package import TARGET, pipeline
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--checkpoint", help="instead of the packaged model")
    parser.add_argument("--guidance", type=float, default=3)
    parser.add_argument("--pag", type=float, default=2)
    parser.add_argument("--layers", nargs="+", default=["mid"])
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    if args.checkpoint:
        pipe = StableDiffusionPAGPipeline.from_pipe(pipeline(args.checkpoint), pag_applied_layers=args.layers)
    else:
        options = {"torch_dtype": torch.float32, "pag_applied_layers": args.layers}
        pipe = StableDiffusionPAGPipeline.from_pretrained(TARGET, **options)
    prompts = (HERE / "prompts.txt").read_text().splitlines()
    seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    scales = {"guidance_scale": args.guidance, "pag_scale": args.pag, "num_inference_steps": args.steps}
    images = pipe(prompts, height=64, width=64, generator=seeds, output_type="np", **scales).images
    sheet = (images * 255).round().astype(np.uint8).reshape(4, 4, 64, 64, 3).transpose(0, 2, 1, 3, 4)
    Image.fromarray(sheet.reshape(256, 256, 3)).resize((768, 768), 0).save(args.out)


if __name__ == "__main__":
    main()
