"""What a network gets once more, with a worse image in it: for methods that perturb its input, not its attention."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from pag.families import Convention, Family
from pag.layers import Layers, Site, select
from pag.noise import Level
from pag.perturbations import INPUT_PERTURBATIONS, InputPerturbation
from pag.rows import Rows


def base_of(rows: Rows) -> str:
    """The group of rows that is predicted once more: of the negative prompt if there is one (arXiv 2210.00939)."""
    return "uncond" if "uncond" in rows.given else "cond"


def degraded(
    method: InputPerturbation, level: Level, sample: Tensor, prediction: Tensor, seen: Bool[Tensor, "rows image"]
) -> Tensor:
    """The network's input with a worse image, and the same noise.

    ``z = a·x₀ + b·n`` becomes ``z + a·(x̃₀ − x₀)``, so that what the network took for noise stays as it is, and the
    noise level too. Channels that are not denoised, of an inpainting model, say, do as well.

    Args:
        method: what makes the image worse.
        level: of the noise.
        sample: the network's input.
        prediction: what the network returned for its first channels.
        seen: tokens of the image that the method chose at its layer.

    Raises:
        ValueError: if the tokens are not those of the sample's grid.
    """
    channels = prediction.shape[1]
    noisy = sample[:, :channels].to(prediction.dtype)
    image = level.image(noisy, prediction)
    mask = seen.view(len(seen), 1, *_grid(seen.shape[1], sample.shape[-2:]))
    worse = noisy + (method.degrade(image, mask) - image)
    return torch.cat([worse.to(sample.dtype), sample[:, channels:]], dim=1)


def _grid(tokens: int, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of the tokens' grid: those of the sample, divided by a whole number and rounded up or down."""
    height, width = size
    for shrink in range(1, max(height, width) + 1):
        for grid in ((-(-height // shrink), -(-width // shrink)), (height // shrink, width // shrink)):
            if grid[0] * grid[1] == tokens:
                return grid
    raise ValueError(f"The {tokens} tokens of the layer do not lie on a grid of the {height}×{width} sample.")


def recommended(model: nn.Module, family: Family, method: str) -> Layers:
    """The recommended layers: those of PAG or, where a method looks at one layer, that one."""
    if method not in INPUT_PERTURBATIONS:
        return family.recommended(model)
    return select(family.sites(model), family.looked_at or family.recommended(model))[0].path


def check_input(model: Any, family: Family, sites: Sequence[Site], method: str) -> None:
    """Raise if a method that perturbs the input cannot be used so.

    Raises:
        TypeError: if the network's samples are not known to be noisy images of (rows, channels, height, width).
        ValueError: if there is not exactly one layer.
    """
    if not family.degradable:
        raise TypeError(
            f"perturbation={method!r} makes the image in a sample of (rows, channels, height, width) worse, but "
            f"{type(model).__name__} gets tokens, frames or something else. It is possible with U-Nets of images, "
            "SD 3, PixArt and DiT; perturbation='identity' is possible here."
        )
    if len(sites) != 1:
        raise ValueError(
            f"perturbation={method!r} looks at the attention of one layer, but {len(sites)} were given: "
            f"{', '.join(map(str, sites))}. Name one of them, or none for the first one in the middle."
        )


def check_convention(pipeline: str, convention: Convention, method: str) -> None:
    """Raise if a pipeline does not pass the noisy image as networks of its kind are told to get it.

    Raises:
        TypeError: if it does not.
    """
    if convention.log_sigma or not convention.noisy_first:
        how = "scales it in its own way" if convention.log_sigma else "does not pass it in its first channels alone"
        raise TypeError(
            f"perturbation={method!r} makes the image in the noisy sample worse, but {pipeline} {how}. "
            "perturbation='identity' is possible here."
        )
