"""Checks of what was only guessed about a network, made once, in the first guided call."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_ERRORS = 16
"""Rounding errors of a network's output, in units of its largest value's last place (those of float32: a few more)."""


def check_rows(name: str, plain: Any, grown: Any, normal: int, predictions: int) -> None:
    """Compare the normal rows of a grown call with a plain call, to which more rows must not make a difference.

    Args:
        name: of the network.
        plain: the output of the plain call.
        grown: the output of the grown call.
        normal: how many rows the plain call has.
        predictions: how many tensors the output is known to hold.

    Raises:
        TypeError: if there are other tensors.
        RuntimeError: if the rows differ.
    """
    tensors = [one for one in _values(plain) if isinstance(one, Tensor)]
    if len(tensors) != predictions:
        raise TypeError(
            f"{name} returns {len(tensors)} tensors. Register its family, and say with `predictions` how many of them "
            "are to be guided."
        )
    for one, other in zip(tensors, _values(grown), strict=False):
        if not _close(one, other[:normal]):
            raise RuntimeError(
                f"The rows of {name} depend on one another, or are not where they were looked for (is it in training "
                "mode?). Register its family, and say with `row_arguments` which arguments carry rows."
            )


@contextmanager
def explained(name: str) -> Generator[None]:
    """Add to an error inside the network what may be its reason.

    Args:
        name: of the network.
    """
    try:
        yield
    except RuntimeError as error:
        error.add_note(
            f"{name} is of no known family, and not all of its arguments may carry rows as was guessed. Register its "
            "family, and say with `row_arguments` which of them do."
        )
        raise


def _values(output: Any) -> Sequence[Any]:
    return list(output.values()) if isinstance(output, dict) else list(output)  # pyright: ignore


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    error = (one.float() - other.float()).abs().max()
    allowed = max(1e-4, _ERRORS * torch.finfo(one.dtype).eps) * one.float().abs().max()
    return bool(error <= allowed)
