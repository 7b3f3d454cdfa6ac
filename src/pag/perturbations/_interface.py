"""What a perturbation is given: the operands of one attention operation, and what its tokens are."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Heads = Float[Tensor, "rows heads tokens dim"]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Tokens:
    """Which tokens of the sequence belong to the image."""

    image: slice


Perturbation = Callable[[Tensor, Tensor, Tensor, Attend, Tokens], Tensor]
"""``(q, k, v, attend, tokens) → output``: all of shape (rows, heads, tokens, dim). ``attend`` is the network's own
attention operation. The rows are the perturbed ones only: a perturbation knows no model, pipeline or batch."""
