"""Large arguments of which a guided call needs no copy for the perturbed rows: they are taken as they came in.

In their place the network gets what has the shape of all rows and takes no memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

import torch
from torch import Tensor

from pag.rows import Rows, Stage, mapped


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
    """Arguments that are read in some modules only, which get their rows there, for as long as they run.

    Args:
        rows: the rows of the call.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._normal: list[Tensor] = []  # no functions: torch.compile would trace anew for each new one

    def stand_in(self, normal: Tensor) -> Tensor:
        """What the network gets in place of a tensor: its shape with all rows. Whoever else reads it gets NaN.

        Args:
            normal: the rows that are not perturbed.
        """
        self._normal.append(normal)
        return normal.new_full((), torch.nan).expand(self._rows.total, *normal.shape[1:])

    def given(self, value: Any) -> Any:
        """What was lent, for what came in its place: all rows, or where rows are shared those that are not perturbed.

        It is known by its shape: an offload hook may have made a copy. And other tensors may be with it by now.
        """
        return mapped(self._given, value)

    def _given(self, tensor: Tensor) -> Tensor:
        for normal in self._normal:
            if tensor.shape[1:] == normal.shape[1:] and tensor.shape[:1] in ((self._rows.total,), normal.shape[:1]):
                all_rows = len(tensor) == self._rows.total
                return (self._rows.spread(normal, Stage.TEXT) if all_rows else normal).to(tensor)
        return tensor
