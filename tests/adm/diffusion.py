"""ADM's sampling as the papers define it, in double precision: what the pipeline is compared with.

From the formulas of arXiv 2006.11239 (the posterior), 2010.02502 (DDIM), 2102.09672 (respacing, learned range of the
variance) and 2105.05233 (classifier guidance). No scheduler takes part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TRAINED = 1000

Noise = Callable[[], Tensor]


def even(count: int, first: int = 0, size: int = TRAINED) -> list[int]:
    """`count` steps from the first to the last of a section, rounded: "250" is `even(250)`."""
    stride = (size - 1) / max(count - 1, 1)
    return [first + round(index * stride) for index in range(count)]


def sections(counts: Sequence[int]) -> list[int]:
    """As many steps as are told, in each of as many equal parts: "10,15,20"."""
    size = TRAINED // len(counts)
    assert size * len(counts) == TRAINED
    return [time for index, count in enumerate(counts) for time in even(count, index * size, size)]


def strided(count: int) -> list[int]:
    """A step every `TRAINED / count`, from 0 on: "ddim25" is `strided(25)`."""
    assert TRAINED % count == 0
    return list(range(0, TRAINED, TRAINED // count))


@dataclass
class Diffusion:
    """The process of the kept steps: their own betas, which have the same ᾱ."""

    times: list[int]

    def __post_init__(self) -> None:
        betas = torch.linspace(0.0001, 0.02, TRAINED, dtype=torch.float64)
        self.bar = torch.cumprod(1 - betas, 0)[self.times]
        self.bar_before = torch.cat([torch.ones(1, dtype=torch.float64), self.bar[:-1]])
        self.beta = 1 - self.bar / self.bar_before
        self.posterior = self.beta * (1 - self.bar_before) / (1 - self.bar)

    def image(self, index: int, noisy: Tensor, noise: Tensor) -> Tensor:
        """x₀ of a predicted noise."""
        return (noisy - (1 - self.bar[index]).sqrt() * noise) / self.bar[index].sqrt()

    def noise(self, index: int, noisy: Tensor, image: Tensor) -> Tensor:
        """The noise that is left when x₀ is known."""
        return (noisy - self.bar[index].sqrt() * image) / (1 - self.bar[index]).sqrt()

    def mean(self, index: int, noisy: Tensor, image: Tensor) -> Tensor:
        """Of q(x before | x, x₀)."""
        bar, before, beta = self.bar[index], self.bar_before[index], self.beta[index]
        of_image = before.sqrt() * beta / (1 - bar)
        of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - bar)
        return of_image * image + of_noisy * noisy

    def variance(self, index: int, learned: Tensor) -> Tensor:
        """Between the posterior's, at -1, and β, at 1, by their logarithms; the posterior's first is 0."""
        least = self.posterior[max(index, 1)].log()
        part = (learned + 1) / 2
        return (part * self.beta[index].log() + (1 - part) * least).exp()

    def ddpm(self, index: int, noisy: Tensor, predicted: Tensor, fresh: Noise, gradient: Any = None) -> Tensor:
        noise, learned = predicted.chunk(2, dim=1)
        image = self.image(index, noisy, noise).clamp(-1, 1)
        mean, variance = self.mean(index, noisy, image), self.variance(index, learned)
        if gradient is not None:
            mean = mean + variance * gradient
        return mean if index == 0 else mean + variance.sqrt() * fresh()

    def ddim(
        self, index: int, noisy: Tensor, predicted: Tensor, fresh: Noise, gradient: Any = None, eta: float = 0.0
    ) -> Tensor:
        image = self.image(index, noisy, predicted.chunk(2, dim=1)[0]).clamp(-1, 1)
        noise = self.noise(index, noisy, image)
        if gradient is not None:  # which moves what is clamped already
            noise = noise - (1 - self.bar[index]).sqrt() * gradient
            image = self.image(index, noisy, noise)
        bar, before = self.bar[index], self.bar_before[index]
        sigma = eta * ((1 - before) / (1 - bar)).sqrt() * (1 - bar / before).sqrt()
        moved = before.sqrt() * image + (1 - before - sigma**2).sqrt() * noise
        return moved if index == 0 or eta == 0 else moved + sigma * fresh()
