"""Put the trained models into diffusers folders in half precision: ``model/unconditional``, ``model/conditional``."""

from __future__ import annotations

import torch
from data import CLASSES, HERE, WORK
from diffusers import DDIMScheduler, UNet2DModel
from train import STEPS, UNET

import pag
from pag.adm.samplers import DDIM

MODELS = HERE / "model"


def pipeline(name: str) -> pag.ADMPipeline:
    classes = {"num_class_embeds": len(CLASSES)} if name == "conditional" else {}
    unet = UNet2DModel(**UNET, **classes)  # pyright: ignore
    unet.load_state_dict(torch.load(WORK / f"{name}.pt")["ema"])
    names = dict(enumerate(CLASSES)) if classes else None
    return pag.ADMPipeline(unet.eval(), DDIMScheduler(STEPS, **DDIM), id2label=names)


def main() -> None:
    for name in ("unconditional", "conditional"):
        pipeline(name).to(torch.float16).save_pretrained(MODELS / name)
        files = [file for file in (MODELS / name).rglob("*") if file.is_file()]
        for file in files:
            file.chmod(0o644)
        print(f"{name}: {sum(file.stat().st_size for file in files) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
