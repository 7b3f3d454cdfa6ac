"""How far images are from other images: PSNR, and what the judges of the embedded model's recipe see."""

import sys
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.record import ROOT

RECIPE = ROOT / "recipes" / "avatars"
STAGES = (2, 4, 10, 15)
"""Blocks of EfficientNet-Lite0 at whose ends the resolution falls."""


def psnr(images: Tensor, exact: Tensor) -> list[float]:
    """Peak signal-to-noise ratio in dB of each image (N, 3, H, W) in [0, 1], 99 at the most."""
    error = (images - exact).square().mean((1, 2, 3)).clamp_min(1e-12)
    return [min(99.0, float(-10 * one.log10())) for one in error]


def perceptual(images: Tensor, exact: Tensor) -> list[float] | None:
    """Distance of each pair in a network's features: squared, of unit vectors, the mean over places and four layers.

    It is that of LPIPS with EfficientNet-Lite0 and equal weights. None where the network is not installed.
    """
    if (recipe := _recipe()) is None:
        return None
    pairs = zip(_stages(recipe, images), _stages(recipe, exact), strict=True)
    return torch.stack([(one - other).square().sum(1).mean((1, 2)) for one, other in pairs]).mean(0).tolist()


class Gallery:
    """Real avatars and their prompts, made by the recipe; they are in its folder `work`.

    Args:
        reference: number of real images that samples are compared with.

    Raises:
        FileNotFoundError: if the recipe's data or classifier have not been made.
    """

    def __init__(self, reference: int) -> None:
        self._evaluate = _recipe()
        if self._evaluate is None or not (RECIPE / "work" / "classifier.pt").exists():
            raise FileNotFoundError("The recipe's classifier and data are not there: `make bench` makes them.")
        images = self._evaluate.load("test")[0]
        self._moments = self._evaluate.Moments.of(self._features(images[5000 : 5000 + reference]))
        self._others = images[5000 + reference :]

    def prompts(self, count: int) -> list[str]:
        """Prompts of avatars that the model was not trained on."""
        return self._evaluate.prompts_of("held-out", count)[0]

    def real(self, count: int) -> float:
        """Fréchet distance of as many other real images."""
        return self._moments.distance(self._features(self._others[:count]))

    def judge(self, images: Tensor) -> dict[str, Any]:
        """Fréchet distance from the real images, and the share of the attributes in the prompts that are found."""
        features, found = self._evaluate.look(_pixels(images))
        named = self._evaluate.accuracy(found, "held-out")
        return {"distance": self._moments.distance(features.astype(float)), "attributes": named["all"]}

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._evaluate.look(images)[0].astype(float)


@cache
def _recipe() -> Any:
    """The recipe's module `evaluate`, or None where its feature network is not installed."""
    if str(RECIPE) not in sys.path:
        sys.path.append(str(RECIPE))
    try:
        import evaluate  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return evaluate


def _stages(recipe: Any, images: Tensor) -> list[Tensor]:
    """Features of images after each stage, with unit length in each place."""
    extractor = recipe.extractor()
    found: list[Tensor] = []
    hooks = [
        extractor.net._blocks[index].register_forward_hook(lambda module, inputs, output: found.append(output))
        for index in STAGES
    ]
    try:
        extractor(_pixels(images))
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.nn.functional.normalize(one, dim=1) for one in found]


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
