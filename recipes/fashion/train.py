"""Train a small ADM on Fashion-MNIST: noise and its learned variance, EMA. Resumes from ``work/NAME.pt``.

The loss is that of Improved DDPM (arXiv 2102.09672): ``|ε − ε_θ|² + T/1000 · L_vlb``, whose second part teaches the
variance alone and is kept from the mean.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import CLASSES, SIZE, WORK, floats, load
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

STEPS = 1000
UNET = {
    "sample_size": SIZE,
    "in_channels": 1,
    "out_channels": 2,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 32,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "norm_eps": 1e-5,
}
"""ADM's: scale-shift norm, up- and downsampling in residual blocks, attention at 16, 8 and 4, learned sigma."""


class Diffusion:
    """The forward process with linear betas, and the loss."""

    def __init__(self) -> None:
        alphas = DDPMScheduler(STEPS).alphas_cumprod.double()
        before = torch.cat([torch.ones(1).double(), alphas[:-1]])
        betas = 1 - alphas / before
        variance = betas * (1 - before) / (1 - alphas)
        variance[0] = variance[1]  # that of the last step is zero, and its logarithm none
        self.alphas, self.log_betas, self.log_variance = alphas, betas.log(), variance.log()
        self.of_x0 = betas * before.sqrt() / (1 - alphas)
        self.of_xt = (1 - before) * (1 - betas).sqrt() / (1 - alphas)

    def loss(self, model: nn.Module, x0: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both parts at stratified timesteps."""
        n = len(x0)
        t = ((torch.arange(n) + torch.rand(n)) / n * STEPS).long()
        noise, a = torch.randn_like(x0), _at(self.alphas, t)
        x = a.sqrt() * x0 + (1 - a).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            extra = {} if labels is None else {"class_labels": labels}
            out = model(x.contiguous(memory_format=torch.channels_last), t, return_dict=False, **extra)[0].float()
        epsilon, weight = out.chunk(2, 1)
        return F.mse_loss(epsilon, noise), self._bound(x0, x, t, epsilon.detach(), weight)

    def _bound(self, x0: Tensor, x: Tensor, t: Tensor, epsilon: Tensor, weight: Tensor) -> Tensor:
        """Bits by which the reverse step misses the true one; in the last step, by which it misses the pixels."""
        a = _at(self.alphas, t)
        predicted = (x - (1 - a).sqrt() * epsilon) / a.sqrt()
        mean = _at(self.of_x0, t) * predicted.clamp(-1, 1) + _at(self.of_xt, t) * x
        true = _at(self.of_x0, t) * x0 + _at(self.of_xt, t) * x
        low, high = _at(self.log_variance, t), _at(self.log_betas, t)
        log = low + (weight + 1) / 2 * (high - low)
        divergence = 0.5 * (log - low - 1 + (low - log).exp() + (true - mean).square() * (-log).exp())
        parts = torch.where((t == 0).view(-1, 1, 1, 1), _pixels(x0, mean, log), divergence)
        return parts.mean() / math.log(2)


def _at(values: Tensor, t: Tensor) -> Tensor:
    return values[t].float().view(-1, 1, 1, 1)


def _pixels(x0: Tensor, mean: Tensor, log: Tensor) -> Tensor:
    """Negative log-likelihood of 8-bit pixels."""
    scale = (-0.5 * log).exp()
    above = torch.special.ndtr(scale * (x0 - mean + 1 / 255))
    below = torch.special.ndtr(scale * (x0 - mean - 1 / 255))
    return -torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1 - below, above - below)).clamp_min(1e-12).log()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    images, classes = load("train")
    extra = {"num_class_embeds": len(CLASSES)} if args.conditional else {}
    model = UNet2DModel(**UNET, **extra).to(memory_format=torch.channels_last)  # pyright: ignore
    ema = copy.deepcopy(model).requires_grad_(False)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    name = "conditional" if args.conditional else "unconditional"
    path, step, spent = WORK / f"{name}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path)
        for part, key in ((model, "model"), (ema, "ema"), (optimizer, "optimizer")):
            part.load_state_dict(state[key])
        step, spent = state["step"], state["seconds"]
    torch.manual_seed(1000 + step)
    diffusion, run = Diffusion(), torch.compile(model) if args.compile else model
    began, first, losses, done = time.time(), step, list[tuple[float, float]](), step / args.steps
    while done < 1:
        rows = torch.randint(len(images), (args.batch,)).numpy()
        labels = torch.from_numpy(classes[rows]) if args.conditional else None
        simple, bound = diffusion.loss(run, floats(images[rows]), labels)
        optimizer.zero_grad()
        (simple + STEPS / 1000 * bound).backward()
        elapsed = spent + time.time() - began
        done = max((step + 1) / args.steps, elapsed / (60 * args.minutes) if args.minutes else 0)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min((step + 1) / 200, 0.5 + 0.5 * math.cos(math.pi * min(done, 1)) + 0.002)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        torch._foreach_lerp_(list(ema.parameters()), parameters, max(1 - args.ema, 9 / (9 + step)))
        losses.append((simple.item(), bound.item()))
        if step % 50 == 0:
            speed = (step - first) * args.batch / (time.time() - began)
            print(step, np.mean(losses[-50:], axis=0).round(4), f"{speed:.0f} img/s, {done:.0%}", flush=True)
        if step % 250 == 0 or done >= 1:
            save(path, model, ema, optimizer, step, elapsed)
            report = {"steps": step, "batch": args.batch, "images": step * args.batch, "seconds": elapsed}
            (WORK / f"{name}.json").write_text(json.dumps(report))


def save(
    path: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    parts = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**parts, "step": step, "seconds": seconds}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conditional", action="store_true", help="with the class; else without")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=0, help="end after this many minutes, if that is sooner")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
