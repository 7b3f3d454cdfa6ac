"""One tiny random network of a denoiser class, and what must be known to test it without any help of `pag`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tests import masked
from tests.groups import building

SEED = 1


@dataclass(frozen=True)
class Network:
    """A network and its inputs.

    Args:
        make: builds the network (in a fraction of a second; width 16 to 64, up to 3 blocks).
        inputs: arguments of ``forward`` for a number of rows that all differ, from a generator. What carries rows has
            them in its first dimension (lists with an item for each row: see ``row_lists``).
        paths: module paths of the self-attention layers to test, as read from the source of diffusers.
        image: for each of the paths, the positions of the image's tokens among the queries, as read from the source:
            one slice, or one for each row. None: all tokens. Or a function, as in ``tests.masked.perturbed``.
        tables: arguments that carry no rows.
        row_lists: arguments that are lists with an item for each row.
        frames: for each of the paths, the number of frames whose tokens lie one after the other, if it is a video's.
        variance: whether the second half of the output's channels is a variance.
        predictions: how many of the outputs are predictions.
        uncond: arguments that differ between the rows of CFG; all others are equal in a pipeline.
        reference: attention modules whose operation is not ``F.scaled_dot_product_attention``: a context manager
            that perturbs all rows at a path by other means than ours, ``(model, path) -> context``.
        rounding: how far two orders of the same operations may be apart in a guided prediction, relative to the
            largest: more than usual where the network itself makes much of the last bit.
        xfail: known gaps and their reasons; ``"cost"`` where a network cannot be counted without weights, and
            ``"half"`` where the network itself does not run in half precision.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], dict[str, Any]]
    paths: Sequence[str]
    image: masked.Image | dict[str, masked.Image] = None
    tables: Sequence[str] = ()
    row_lists: Sequence[str] = ()
    frames: int | None = None
    variance: bool = False
    predictions: int = 1
    uncond: Sequence[str] = ("encoder_hidden_states",)
    reference: Callable[[nn.Module, str], Any] | None = None
    rounding: float = 1e-5
    xfail: dict[str, str] = field(default_factory=dict[str, str])

    @cache  # noqa: B019
    def model(self) -> nn.Module:
        """The network, the same one each time: nobody changes it. Its attention is strong enough to be seen."""
        return strong(self.make)

    def arguments(self, rows: int, seed: int = 0) -> dict[str, Any]:
        """Arguments of ``forward``."""
        return self.inputs(rows, torch.Generator().manual_seed(seed))

    def image_at(self, path: str) -> masked.Image:
        """Where the image's tokens are."""
        return self.image[path] if isinstance(self.image, dict) else self.image

    def __hash__(self) -> int:
        return id(self)


def strong(make: Callable[[], nn.Module]) -> nn.Module:
    """A new network whose weights are the same every time, none of them zero, and whose attention matters."""
    torch.manual_seed(SEED)
    with building():
        model = make().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and ("attn" in name or "attention" in name):
            parameter.mul_(2)
        elif not parameter.any():  # gates and output layers begin at zero
            nn.init.normal_(parameter, std=0.1)
    return model


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal noise."""
    return torch.randn(*shape, generator=generator)
