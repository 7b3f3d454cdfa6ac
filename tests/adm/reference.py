"""The networks of guided-diffusion as their paper and their published checkpoints define them, in plain PyTorch.

Submodules are named and numbered as the weights in the checkpoints are. Nothing of diffusers is used.

It was compared once with the published code, which guided_diffusion_sdk 1.0.0 on PyPI carries: on every network of
`test_networks` the outputs were bit-equal, and at full size all names and shapes were the same.
"""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def time_waves(times: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of frequencies that fall from 1 to nearly 1/10000."""
    rates = torch.exp(-log(10000) * torch.arange(width // 2, device=times.device) / (width // 2))
    angles = times[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Residual(nn.Module):
    def __init__(self, width_in: int, width: int, time: int, scale_shift: bool, way: str = "") -> None:
        super().__init__()
        self.scale_shift, self.way = scale_shift, way
        self.in_layers = nn.Sequential(norm(width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, width * (2 if scale_shift else 1)))
        self.out_layers = nn.Sequential(norm(width), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(width, width, 3, padding=1))
        self.skip_connection = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def resampled(self, x: Tensor) -> Tensor:
        if self.way == "up":
            return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return F.avg_pool2d(x, 2) if self.way == "down" else x

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        normed, activate, conv = self.in_layers
        h = conv(self.resampled(activate(normed(x))))
        told = self.emb_layers(time)[:, :, None, None]
        normed, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = normed(h) * (1 + scale) + shift
        else:
            h = normed(h + told)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self.resampled(x)) + h


def attend(qkv: Tensor, heads: int, new_order: bool) -> Tensor:
    rows, width, tokens = qkv.shape
    each = width // heads // 3
    if new_order:
        q, k, v = (part.reshape(rows, heads, each, tokens) for part in qkv.chunk(3, dim=1))
    else:
        q, k, v = qkv.reshape(rows, heads, 3 * each, tokens).split(each, dim=2)
    weight = torch.einsum("nhct,nhcs->nhts", q * each**-0.25, k * each**-0.25).softmax(-1)
    return torch.einsum("nhts,nhcs->nhct", weight, v).reshape(rows, heads * each, tokens)


class Attention(nn.Module):
    """Self-attention; it gives its values as they are where `perturbed` is set."""

    perturbed = False

    def __init__(self, width: int, heads: int, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv, self.proj_out = norm(width), nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        if self.perturbed:
            parts = qkv if self.new_order else qkv.unflatten(1, (self.heads, 3, -1)).transpose(1, 2).flatten(1, 3)
            h = parts.chunk(3, dim=1)[2]
        else:
            h = attend(qkv, self.heads, self.new_order)
        return (flat + self.proj_out(h)).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


class First(nn.Conv2d):
    def forward(self, input: Tensor, time: Tensor | None = None) -> Tensor:  # noqa: A002
        return super().forward(input)


class Body(nn.Module):
    """What U-Net and classifier have in common: time, the way down and the middle."""

    def __init__(
        self,
        model_channels: int,
        multipliers: Sequence[float],
        res_blocks: int,
        attention: Sequence[int],
        in_channels: int = 3,
        heads: int | None = None,
        head_channels: int | None = None,
        scale_shift: bool = True,
        resblock_updown: bool = True,
        new_order: bool = False,
    ) -> None:
        super().__init__()
        self.model_channels, time = model_channels, 4 * model_channels
        self.widths = [int(model_channels * multiplier) for multiplier in multipliers]
        self.time_embed = nn.Sequential(nn.Linear(model_channels, time), nn.SiLU(), nn.Linear(time, time))

        def residual(width_in: int, width: int, way: str = "") -> nn.Module:
            return Residual(width_in, width, time, scale_shift, way)

        def resampler(width: int, way: str) -> nn.Module:
            if resblock_updown:
                return residual(width, width, way)
            return Down(width) if way == "down" else Up(width)

        def attention_layer(width: int) -> nn.Module:
            return Attention(width, heads or width // (head_channels or width), new_order)

        self.residual, self.resampler, self.attention_layer = residual, resampler, attention_layer
        width = self.widths[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(in_channels, width, 3, padding=1)])])
        self.kept = [width]
        for level, wanted in enumerate(self.widths):
            for _ in range(res_blocks):
                block = [residual(width, wanted), *([attention_layer(wanted)] if 2**level in attention else [])]
                self.input_blocks.append(nn.ModuleList(block))
                width = wanted
                self.kept.append(width)
            if level < len(self.widths) - 1:
                self.input_blocks.append(nn.ModuleList([resampler(width, "down")]))
                self.kept.append(width)
        self.middle_block = nn.ModuleList([residual(width, width), attention_layer(width), residual(width, width)])

    def embed(self, times: Tensor) -> Tensor:
        return self.time_embed(time_waves(times, self.model_channels))

    def descend(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        kept: list[Tensor] = []
        for block in self.input_blocks:
            x = run(block, x, time)
            kept.append(x)
        return run(self.middle_block, x, time), kept


def run(block: Any, x: Tensor, time: Tensor) -> Tensor:
    for layer in block:
        x = layer(x, time)
    return x


class UNet(Body):
    def __init__(
        self,
        model_channels: int,
        multipliers: Sequence[float],
        res_blocks: int,
        attention: Sequence[int],
        out_channels: int = 6,
        classes: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(model_channels, multipliers, res_blocks, attention, **more)
        if classes:
            self.label_emb = nn.Embedding(classes, 4 * model_channels)
        self.output_blocks = nn.ModuleList()
        width, kept = self.widths[-1], list(self.kept)
        for level, wanted in reversed(list(enumerate(self.widths))):
            for index in range(res_blocks + 1):
                block = [self.residual(width + kept.pop(), wanted)]
                block += [self.attention_layer(wanted)] if 2**level in attention else []
                block += [self.resampler(wanted, "up")] if level and index == res_blocks else []
                self.output_blocks.append(nn.ModuleList(block))
                width = wanted
        self.out = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        time = self.embed(times)
        if labels is not None:
            time = time + self.label_emb(labels)
        x, kept = self.descend(x, time)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, kept.pop()], dim=1), time)
        return self.out(x)


class Pool(nn.Module):
    def __init__(self, side: int, width: int, head_channels: int, classes: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(width, side**2 + 1) / width**0.5)
        self.qkv_proj, self.c_proj = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, classes, 1)
        self.heads = width // head_channels

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        tokens = torch.cat([tokens.mean(-1, keepdim=True), tokens], dim=-1) + self.positional_embedding
        return self.c_proj(attend(self.qkv_proj(tokens), self.heads, new_order=True))[:, :, 0]


class Classifier(Body):
    def __init__(
        self,
        size: int,
        model_channels: int,
        multipliers: Sequence[float],
        res_blocks: int,
        attention: Sequence[int],
        head_channels: int,
        classes: int,
        **more: Any,
    ) -> None:
        super().__init__(model_channels, multipliers, res_blocks, attention, head_channels=head_channels, **more)
        width, side = self.widths[-1], size // 2 ** (len(multipliers) - 1)
        self.out = nn.Sequential(norm(width), nn.SiLU(), Pool(side, width, head_channels, classes))

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return self.out(self.descend(x, self.embed(times))[0])


def published(name: str) -> nn.Module:
    """The network of a published checkpoint at full size, by the flags of its README."""
    multipliers = {
        64: (1, 2, 3, 4),
        128: (1, 1, 2, 3, 4),
        256: (1, 1, 2, 2, 4, 4),
        512: (0.5, 1, 1, 2, 2, 4, 4),
    }
    if "upsampler" in name:
        size = int(name.split("_")[1])
        at = [size // side for side in ((32, 16, 8) if size == 256 else (32, 16))]
        heads: dict[str, Any] = {"heads": 4} if size == 256 else {"head_channels": 64}
        return UNet(192, multipliers[256], 2, at, in_channels=6, classes=1000, **heads)
    size = int(name.split("x")[0])
    at = [size // side for side in (32, 16, 8)]
    if "classifier" in name:
        return Classifier(size, 128, multipliers[size], 4 if size == 64 else 2, at, 64, 1000)
    heads = {"heads": 4} if size == 128 else {"head_channels": 64}
    classes = None if "uncond" in name else 1000
    wide, deep = (192, 3) if size == 64 else (256, 2)
    return UNet(wide, multipliers[size], deep, at, classes=classes, new_order=size == 64, **heads)
