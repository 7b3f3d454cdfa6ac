"""Train the U-Net and its text encoder on cached latents (v-prediction, EMA). Resumes from ``work/unet.pt``."""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from data import WORK, Avatar, caption, load
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizer import MAX_LENGTH
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

UNET = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (48, 96),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 96,
    "attention_head_dim": (1, 2),  # diffusers' name for the number of heads
}
TEXT = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 3}
SCHEDULE = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
}
CAPTIONS, EMPTY = 4, 0.15  # captions an image, share of empty prompts


class Denoiser(nn.Module):
    """Text encoder and U-Net as one module, so that one graph is compiled."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        size = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH}
        config = CLIPTextConfig(**TEXT, **size, **ends, pad_token_id=tokenizer.pad_token_id, projection_dim=96)
        self.text = CLIPTextModel(config)
        self.unet = UNet2DConditionModel(**UNET)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x, t, self.text(tokens).last_hidden_state, return_dict=False)[0]


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(N, 32) token ids."""
    options = {"padding": "max_length", "truncation": True, "max_length": MAX_LENGTH, "return_tensors": "pt"}
    return tokenizer(texts, **options).input_ids


def captions(tokenizer: CLIPTokenizer, avatars: list[Avatar]) -> Tensor:
    """(N, CAPTIONS, 32) token ids, drawn with a fixed seed."""
    rng = random.Random(0)
    texts = [caption(a, rng, rng.uniform(0.3, 1))[0] for a in avatars for _ in range(CAPTIONS)]
    return tokenize(tokenizer, texts).view(len(avatars), CAPTIONS, MAX_LENGTH)


def sample_loss(model: nn.Module, latents: Tensor, tokens: Tensor, alphas: Tensor) -> Tensor:
    """v-prediction loss at stratified timesteps, more of them where the picture takes shape than in pure noise."""
    n = len(latents)
    t = (((torch.arange(n) + torch.rand(n)) / n) ** 1.5 * 1000).long()
    a = alphas[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents)
    noisy, v = a.sqrt() * latents + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * latents
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    return F.mse_loss(model(noisy, t, tokens), v)


def average(parameters: list[nn.Parameter], done: float, workers: int) -> float:
    """Mean gradients over the workers, and the mean of their progress (so that all end at the same step)."""
    if workers > 1:
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None] + [torch.tensor([done])])
        dist.all_reduce(flat)
        flat /= workers
        for p, g in zip(parameters, flat[:-1].split([p.numel() for p in parameters]), strict=True):
            p.grad = g.view_as(p)
        done = flat[-1].item()
    return done


def train(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(max(1, args.threads // args.workers))
    torch.set_flush_denormal(True)
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{args.meet}", rank=rank, world_size=args.workers)
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    posterior, avatars = torch.load(WORK / "latents.pt", mmap=True), load("train")[1]
    factor = AutoencoderKL.from_pretrained(WORK / "vae").config["scaling_factor"]
    tokens, empty = captions(tokenizer, avatars), tokenize(tokenizer, [""])[0]
    alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod
    model = Denoiser(tokenizer).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    ema = copy.deepcopy(model).requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    step, spent, path, share = 0, 0.0, WORK / "unet.pt", args.batch // args.workers
    if path.exists():
        state = torch.load(path)
        for part, name in ((model, "model"), (ema, "ema"), (optimizer, "optimizer")):
            part.load_state_dict(state[name])
        step, spent = state["step"], state["seconds"]
    torch.manual_seed(1000 * step + rank)
    run = torch.compile(model) if args.compile else model
    began, first, losses, done = time.time(), step, list[float](), 0.0
    while done < 1:
        rows = torch.randint(len(avatars), (share,))
        mean, deviation = posterior[rows].float().chunk(2, 1)
        ids = tokens[rows, torch.randint(CAPTIONS, (share,))].clone()
        ids[torch.rand(share) < EMPTY] = empty
        loss = sample_loss(run, factor * (mean + deviation * torch.randn_like(mean)), ids, alphas)
        optimizer.zero_grad()
        loss.backward()
        elapsed = spent + time.time() - began
        progress = max((step + 1) / args.steps, elapsed / (60 * args.minutes) if args.minutes else 0)
        done = average(parameters, progress, args.workers)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min((step + 1) / 200, 0.5 + 0.5 * math.cos(math.pi * min(done, 1)) + 0.002)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), max(1 - args.ema, 9 / (9 + step)))
        losses.append(loss.item())
        if rank == 0 and step % 50 == 0:
            speed = (step - first) * args.batch / (time.time() - began)
            print(f"step {step} loss {np.mean(losses[-50:]):.4f} {speed:.0f} img/s, {done:.0%}", flush=True)
        if rank == 0 and (step % 250 == 0 or done >= 1):
            save(path, model, ema, optimizer, step, elapsed)
            report = {"steps": step, "batch": args.batch, "images": step * args.batch, "seconds": elapsed}
            (WORK / "unet.json").write_text(json.dumps(report))


def save(
    path: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    parts = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**parts, "step": step, "seconds": seconds}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5800)
    parser.add_argument("--minutes", type=float, default=0, help="end after this many minutes, if that is sooner")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that share a batch (steadier on a busy CPU)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.meet = f"{folder}/meet"
        if args.workers > 1:
            mp.spawn(train, (args,), nprocs=args.workers)  # pyright: ignore[reportPrivateImportUsage]
        else:
            train(0, args)


if __name__ == "__main__":
    main()
