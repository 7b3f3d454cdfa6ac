"""What a guided call asks of whoever calls the denoiser: which rows it passes, and what it does with them."""

from collections.abc import Hashable
from typing import Any, Protocol

from torch import Tensor

from pag.noise import Level
from pag.reuse import Deltas
from pag.rows import Rows


class Caller(Protocol):
    """A pipeline, a guider, or whatever else calls a denoiser."""

    def rows(self, sample: Any, role: str | None) -> Rows:
        """The row groups of this call, which begins now."""
        ...

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """Whether all groups get the same inputs, but for the text."""
        ...

    def progress(self, timestep: Tensor | float | int) -> float:
        """Where the run is, from 0 at pure noise to 1 at the clean image."""
        ...

    def level(self, timestep: Tensor | float | int) -> Level:
        """How much of the sample of this call is noise."""
        ...

    def shares(self, deltas: list[Tensor]) -> list[Tensor]:
        """What is added to the rows of the prompt in a call without other rows, of ``δ = s·(c − ĉ)``."""
        ...

    def owed(self) -> list[Tensor] | None:
        """What is added to the rows of a call without the prompt's rows, or None."""
        ...

    def deltas(self, key: Hashable = None) -> Deltas | None:
        """What is kept of the run's deltas, if they are reused.

        Args:
            key: in a call with the prompt's rows, what must have stayed as it is.
        """
        ...

    @property
    def guidance_scale(self) -> float | None:
        """g, if the caller is known to compute ``u + g·(c − u)`` from it."""
        ...

    @property
    def guidance_rescale(self) -> float:
        """How much the result is rescaled towards the standard deviation of the prompt's prediction."""
        ...


class CallerAhead(Caller, Protocol):
    """What a call of a network that runs ahead of the denoiser asks besides."""

    def leaves_out(self, rows: Rows, shapes: Hashable) -> bool:
        """Whether the denoiser's call that follows this one reads no rows but the prompt's."""
        ...
