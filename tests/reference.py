"""Perturbed-attention guidance by the formula alone: separate forwards of the plain network, and nothing of `pag`."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from torch import Tensor, nn


class Identity:
    """diffusers' own perturbed self-attention for all rows: it keeps the first half of its rows unperturbed."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        both: Any = torch.cat([hidden_states, hidden_states])
        return PAGIdentitySelfAttnProcessor2_0()(attn, both).chunk(2)[1]


@contextmanager
def perturbed(model: nn.Module, paths: Sequence[str]) -> Generator[None]:
    """The network with perturbed self-attention at the paths."""
    modules = [model.get_submodule(path) for path in paths]
    before = [module.processor for module in modules]
    for module in modules:
        vars(module).pop("processor", None)
        module._modules.pop("processor", None)  # pyright: ignore
        module.processor = Identity()  # pyright: ignore
    try:
        yield
    finally:
        for module, processor in zip(modules, before, strict=True):
            del module.processor
            module.processor = processor


@contextmanager
def guided(
    pipe: Any, scale: float, paths: Sequence[str], groups: Mapping[int, tuple[int, int]] | None = None
) -> Generator[None]:
    """Add ``s·(c − ĉ)`` to all rows that the pipeline's U-Net returns: weights that sum to 1 carry it through.

    Args:
        pipe: the pipeline.
        scale: s.
        paths: module paths of the perturbed layers.
        groups: by number of rows, the number of row groups and which of them is the prompt's.
    """
    plain = pipe.unet.forward
    known = groups or {1: (1, 0), 2: (2, 1)}

    def forward(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The network empties lists that it is given.
        copies = {name: list(value) if isinstance(value, list) else value for name, value in kwargs.items()}  # pyright: ignore
        output = plain(sample, *args, **copies)
        with perturbed(pipe.unet, paths):
            worse = plain(sample, *args, **kwargs)
        count, cond = known[sample.shape[0]]
        delta = scale * (output[0] - worse[0]).chunk(count)[cond]
        result = output[0] + torch.cat([delta] * count)
        return (result,) if isinstance(output, tuple) else type(output)(sample=result)

    pipe.unet.forward = forward
    try:
        yield
    finally:
        del pipe.unet.forward
