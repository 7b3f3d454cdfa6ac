"""What a denoiser returns: its predictions, and what else there may be."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def predictions_of(output: Any, count: int) -> list[Tensor]:
    """The first of what a denoiser returned: its predictions, one entry of the first dimension for each row.

    There may be fewer than its class can make, if it was asked for no audio, say.
    """
    if isinstance(output, Tensor):
        return [output]
    return [_stacked(output[index]) for index in _places(output, count)]


def beside_predictions(output: Any, count: int) -> list[Any]:
    """What else a denoiser returned."""
    return [
        item for item in list(output.values() if isinstance(output, Mapping) else output)[count:] if item is not None
    ]


def with_predictions(output: Any, predictions: Sequence[Tensor]) -> Any:
    """The same output with other predictions."""
    if isinstance(output, Tensor):
        return predictions[0]
    new: list[Any] = list(output) if isinstance(output, tuple | list) else list(output.values())
    for index, value in zip(_places(output, len(new)), predictions, strict=False):
        new[index] = list(value.unbind()) if isinstance(new[index], list) else value
    if isinstance(output, tuple | list):
        return type(output)(new)  # pyright: ignore
    return type(output)(**dict(zip(output, new, strict=True)))


def _places(output: Any, count: int) -> list[int]:
    """Where the first of the outputs are that are there."""
    return [index for index in range(min(count, len(output))) if output[index] is not None]


def _stacked(prediction: Any) -> Tensor:
    return torch.stack(prediction) if isinstance(prediction, list) else prediction
