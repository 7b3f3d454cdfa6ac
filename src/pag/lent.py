"""Large arguments of which a guided call needs no copy for the perturbed rows: they are taken as they came in.

In their place the network gets what has the shape of all rows and takes no memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

import torch
from torch import Tensor

from pag.rows import mapped


@final
class Growing(Sequence[Any]):
    """A list of tensors that gets its perturbed rows one by one, each as it is asked for.

    Args:
        items: the tensors, as they came in.
        grow: appends the perturbed rows to one.
    """

    def __init__(self, items: Sequence[Any], grow: Callable[[Any], Any]) -> None:
        self._items, self._grow = items, grow

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Growing": ...
    def __getitem__(self, index: int | slice) -> Any:
        """One with its perturbed rows, or several that will get them."""
        chosen = self._items[index]
        return Growing(chosen, self._grow) if isinstance(index, slice) else self._grow(chosen)

    def __iter__(self) -> Iterator[Any]:
        """Each with its perturbed rows, one after the other."""
        return map(self._grow, self._items)

    def __len__(self) -> int:
        return len(self._items)


@final
class Lent:
    """Arguments that are read in some modules only, which get their rows there, for as long as they run."""

    def __init__(self) -> None:
        self._rows: dict[torch.Size, Callable[[], Tensor]] = {}

    def stand_in(self, normal: Tensor, size: int, grow: Callable[[], Tensor]) -> Tensor:
        """What the network gets in place of a tensor: its shape with all rows. Whoever else reads it gets NaN.

        Args:
            normal: the rows that are not perturbed.
            size: how many are.
            grow: makes all rows.
        """
        stand_in = normal.new_full((), torch.nan).expand(len(normal) + size, *normal.shape[1:])
        self._rows |= {normal.shape: lambda: normal, stand_in.shape: grow}
        return stand_in

    def given(self, value: Any) -> Any:
        """What was lent, for what came in its place: all rows, or where rows are shared those that are not perturbed.

        It is known by its shape: an offload hook may have made a copy. And other tensors may be with it by now.
        """
        return mapped(self._given, value) if self._rows else value

    def _given(self, tensor: Tensor) -> Tensor:
        make = self._rows.get(tensor.shape)
        return tensor if make is None else make().to(tensor)
