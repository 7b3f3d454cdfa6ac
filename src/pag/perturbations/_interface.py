"""What a perturbation is given: the operands of one attention operation, and what its tokens are; or an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Bool, Float
from torch import Tensor

Heads = Float[Tensor, "rows heads queries dim"]
Keys = Float[Tensor, "rows heads keys dim"]
Answers = Float[Tensor, "rows heads answers dim"]
Image = Float[Tensor, "rows channels height width"]

ALL = slice(None)


@final
class Attend:
    """The network's own attention operation, mask and scale included.

    Args:
        op: computes attention from ``(q, k, v, mask, **options)``, as ``F.scaled_dot_product_attention`` does.
        mask: what may be attended to, of a shape that broadcasts to (rows, heads, queries, keys), or None. Boolean,
            or numbers that are added to the scores.
        options: more keyword arguments of the operation.
    """

    def __init__(self, op: Callable[..., Tensor], mask: Tensor | None = None, **options: Any) -> None:
        self._op = op
        self._options = options
        self.mask = mask

    @property
    def causal(self) -> bool:
        """Whether a token attends to those ahead of it only, without a mask that says so."""
        return bool(self._options.get("is_causal"))

    @property
    def scale(self) -> float | None:
        """What scores are multiplied with; None is ``dim ** -0.5``."""
        return self._options.get("scale")

    @property
    def linear(self) -> bool:
        """Whether the operation is linear attention, whose weights are no softmax of the scores."""
        return bool(self._options.get("linear"))

    def row(self, index: int) -> "Attend":
        """The operation on one of the rows."""
        mask = self.mask
        if mask is not None and mask.shape[0] > 1:
            mask = mask[[index]]
        return Attend(self._op, mask, **self._options)

    def __call__(self, q: Heads, k: Keys, v: Keys, queries: slice = ALL) -> Answers:
        """Attention of some of the queries to all keys.

        Args:
            q: all queries.
            k: all keys.
            v: all values.
            queries: which queries to answer.
        """
        mask = self.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., queries, :]
        return self._op(q[..., queries, :], k, v, mask, **self._options)


@dataclass(frozen=True)
class Tokens:
    """Which tokens of the sequence belong to the image.

    Args:
        image: where the image's tokens are among the queries.
        keys: where the same tokens are among the keys, which may hold more than the queries do.
        frames: number of frames of a video, whose tokens lie one frame after the other; 0 if they are of unequal size.
    """

    image: slice
    keys: slice
    frames: int = 1

    def alone(self, q: Heads, k: Keys) -> bool:
        """Whether there are no other tokens."""
        count = self.image.stop - self.image.start
        return count == q.shape[-2] == k.shape[-2]


Perturbation = Callable[[Tensor, Tensor, Tensor, Attend, Tokens], Tensor]
"""``(q, k, v, attend, tokens) → output``: of shape (rows, heads, queries or keys, dim). ``attend`` is the network's own
attention operation. The rows are the perturbed ones only: a perturbation knows no model, pipeline or batch."""


Look = Callable[[Tensor, Tensor, Attend, Tokens], Bool[Tensor, "rows image"]]
"""``(q, k, attend, tokens) → mask``: which tokens of the image."""

Degrade = Callable[[Tensor, Tensor], Tensor]
"""``(image, mask) → image``: worse where the mask is, of shape (rows, 1, height, width) of the tokens' grid. A multiple
of the image gives the same multiple of the result."""


@final
@dataclass(frozen=True)
class InputPerturbation:
    """A method that leaves attention alone, and lets the network predict once more from an input with a worse image.

    Args:
        look: what to keep of one layer's attention. The rows are those that are predicted once more.
        degrade: makes the predicted image worse.
        scale: the recommended scale.
    """

    look: Look
    degrade: Degrade
    scale: float
