"""Self-attention guidance by its formula alone: attention maps in full, noise added anew, and nothing of `pag`."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers import StableDiffusionSAGPipeline
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

blur: Any = sys.modules[StableDiffusionSAGPipeline.__module__].gaussian_blur_2d  # pyright: ignore


class _Maps(TorchFunctionMode):
    """Keeps the maps of self-attention that are computed while it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = False
        self.maps: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and self.looks:
            query, key = args[:2]
            self.maps.append((query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1))
        return func(*args, **(kwargs or {}))


@contextmanager
def looking(model: nn.Module, path: str) -> Generator[list[Tensor]]:
    """While the maps of a layer are kept: (rows, heads, queries, keys)."""
    maps, layer = _Maps(), model.get_submodule(path)

    def look(*_: Any) -> None:
        maps.looks = not maps.looks

    hooks = [layer.register_forward_pre_hook(look), layer.register_forward_hook(look)]
    try:
        with maps:
            yield maps.maps
    finally:
        for hook in hooks:
            hook.remove()


def blurred(image: Tensor, attention: Tensor, grid: int) -> Tensor:
    """The image, blurred where tokens of a square grid get more than their share.

    Args:
        image: of shape (rows, channels, height, width).
        attention: the map.
        grid: height and width in tokens.
    """
    mask = (attention.mean(1).sum(1) > 1).to(image.dtype).view(-1, 1, grid, grid)
    mask = mask.repeat_interleave(image.shape[2] // grid, 2).repeat_interleave(image.shape[3] // grid, 3)
    assert 0 < mask.mean() < 1
    return mask * blur(image, 9, 1.0) + (1 - mask) * image
