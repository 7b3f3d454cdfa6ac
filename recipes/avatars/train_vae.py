"""Train the autoencoder: 64x64x3 pixels to 16x16x4 latents. Resumes from ``work/vae.pt``."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import WORK, load
from diffusers import AutoencoderKL

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 16, 32),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 1,
    "sample_size": 64,
    "mid_block_add_attention": False,
}


def batch(images: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """(B, 3, 64, 64) floats in [-1, 1]."""
    x = torch.from_numpy(images[np.sort(rows)]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    gradient = sum(F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True))
    return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * gradient


def loss_of(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.mean + posterior.std * torch.randn_like(posterior.mean)).sample
    return reconstruction_loss(y, x) + 1e-4 * posterior.kl().mean() / 1024


def save(path: Path, vae: AutoencoderKL, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    parts = {"model": vae.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**parts, "step": step, "seconds": seconds}, path)


def encode_all(vae: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """Mean and deviation of every image's posterior, (N, 8, 16, 16), half precision."""
    with torch.no_grad():
        parts = np.array_split(np.arange(len(images)), max(1, len(images) // 100))
        found = [vae.encode(batch(images, rows)).latent_dist for rows in parts]
        return torch.cat([torch.cat([d.mean, d.std], 1).half() for d in found])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1150)
    parser.add_argument("--minutes", type=float, default=0, help="end after this many minutes instead (0: by steps)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--decoder", action="store_true", help="go on with the decoder alone; latents stay valid")
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    rng = np.random.default_rng(0)
    images, held_out = load("train")[0], load("val")[0]
    vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)  # pyright: ignore[reportArgumentType]
    vae.quant_conv.bias.data[4:] -= 6  # begin with little noise  # pyright: ignore[reportOptionalMemberAccess]
    if args.decoder:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)  # pyright: ignore[reportOptionalMemberAccess]
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.99), weight_decay=0, fused=True)
    step, spent, path = 0, 0.0, WORK / "vae.pt"
    if path.exists():
        state = torch.load(path)
        vae.load_state_dict(state["model"])
        if not args.decoder:
            optimizer.load_state_dict(state["optimizer"])
            step, spent = state["step"], state["seconds"]
    run = torch.compile(loss_of) if args.compile else loss_of
    start, first, began, total = time.time() - spent, step, time.time(), 60 * args.minutes
    while True:
        done = max(step / args.steps, (time.time() - start) / total if total else 0)
        if done >= 1:
            break
        lr = args.lr * min((step + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * done) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = lr
        x = batch(images, rng.integers(len(images), size=args.batch))
        loss = run(vae, x)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            speed = (step - first) * args.batch / (time.time() - began)
            print(f"step {step} loss {loss.item():.4f} {speed:.0f} img/s, {done:.0%}", flush=True)
        if step % 250 == 0:
            save(path, vae, optimizer, step, time.time() - start)
    save(path, vae, optimizer, step, time.time() - start)
    vae.eval()
    if not args.decoder:
        torch.save(encode_all(vae, images), WORK / "latents.pt")
    train = torch.load(WORK / "latents.pt", mmap=True)
    with torch.no_grad():
        x = batch(held_out, np.arange(500))
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        psnr = -10 * torch.log10(F.mse_loss(y / 2, x / 2)).item()
    scale = 1 / train[:, :4].float().std().item()
    vae.register_to_config(scaling_factor=scale)
    vae.save_pretrained(WORK / "vae")
    report = {"steps": step, "batch": args.batch, "psnr": psnr, "scaling_factor": scale}
    (WORK / "vae.json").write_text(json.dumps(report))
    print(f"psnr {psnr:.2f} dB, scaling factor {scale:.4f}, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
