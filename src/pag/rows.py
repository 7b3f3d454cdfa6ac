"""Which rows of a batch are uncond, cond and perturbed. The only file that knows batches.

A pipeline calls its denoiser with ``size`` rows for each of its groups, one group after the other. Guidance appends
one more group, ``perturbed``, which starts as a copy of ``cond``. As long as two groups are still equal, only one of
them needs computing: :meth:`Rows.take` keeps the distinct rows, :meth:`Rows.spread` puts the copies back. This is
exact, because no module ahead of the point where groups part mixes rows.

Inside a network a row may be several entries of the first dimension, one after the other: the frames of a video, say,
or its pixels where attention goes over time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor


class Stage(IntEnum):
    """How far one forward has come."""

    START = 0  # the text has not entered yet: every group is equal
    TEXT = 1  # uncond and cond differ, perturbed still equals cond
    PARTED = 2  # the first perturbed layer is reached: no two groups are equal


@dataclass(frozen=True)
class Rows:
    """The rows of one guided call.

    Args:
        size: rows of one group.
        given: groups that the pipeline passed, in order. If none of them is ``"cond"``, there is none to perturb.
        perturbed: whether perturbed rows are appended to them.
    """

    size: int
    given: tuple[str, ...]
    perturbed: bool = True

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups, in order."""
        return (*self.given, "perturbed") if self.perturbed else self.given

    @property
    def guidable(self) -> bool:
        """Whether the prompt's own rows are there."""
        return "cond" in self.given

    @property
    def total(self) -> int:
        """Rows of the grown call."""
        return self.size * len(self.groups)

    @property
    def normal(self) -> int:
        """Rows that the pipeline passed."""
        return self.size * len(self.given)

    def span(self, group: str, entries: int = 1) -> slice:
        """Where a group lies, in a tensor with that many entries for each row."""
        index, size = self.groups.index(group), self.size * entries
        return slice(index * size, (index + 1) * size)

    def grow(self, name: str, value: Any, groups: Sequence[str] = (), *, folded: bool = False) -> Any:
        """Append the perturbed rows to every tensor of an argument; a scalar or a single row serves all as it is.

        Args:
            name: of the argument.
            value: a tensor or a nest of tensors.
            groups: those that the result has, in order. Default: all.
            folded: whether a row may be several entries.

        Raises:
            ValueError: if a tensor has neither one entry for each row (or several, if folded) nor a single one.
        """

        def one(tensor: Tensor) -> Tensor:
            if tensor.ndim == 0 or (tensor.shape[0] == 1 and self.normal > 1):
                return tensor
            entries, rest = divmod(tensor.shape[0], self.normal)
            if rest or not entries or (entries > 1 and not folded):
                raise ValueError(
                    f"{name} of shape {tuple(tensor.shape)} has {tensor.shape[0]} rows, but the call has "
                    f"{self.normal}: {self.size} for each of {', '.join(self.given)}. Pass one entry for each row."
                )
            parts = [tensor[span] for span in self._sources(groups, entries)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return mapped(one, value)

    def on_each(self, value: Any) -> bool:
        """Whether a value is a tensor of numbers with one entry for each row that the pipeline passed."""
        return isinstance(value, Tensor) and value.is_floating_point() and value.shape[:1] == (self.normal,)

    def grow_list(self, name: str, value: Sequence[Any], groups: Sequence[str] = ()) -> list[Any]:
        """The same for a list with one item for each row, or for several rows in succession.

        Raises:
            ValueError: if the items cannot be shared out among the rows.
        """
        count, rest = divmod(self.normal, max(len(value), 1))
        if rest or not value:
            raise ValueError(f"{name} has {len(value)} items, but the call has {self.normal} rows. Pass one for each.")
        each = [item for item in value for _ in range(count)]
        return [each[row] for row in self.sources(groups)]

    def grow_pairs(self, value: Any, groups: Sequence[str] = ()) -> Any:
        """The same for tensors that have the rows in the second dimension."""
        spans = self._sources(groups)
        return mapped(lambda pair: torch.cat([pair[:, span] for span in spans], dim=1), value)

    def sources(self, groups: Sequence[str] = ()) -> list[int]:
        """For each row of a grown call that has these groups, the row that it is, or is a copy of."""
        return [row for span in self._sources(groups) for row in range(span.start, span.stop)]

    def _sources(self, groups: Sequence[str], entries: int = 1) -> list[slice]:
        groups = groups or self.groups
        copies = ["cond" if group == "perturbed" else group for group in groups]
        if tuple(copies[: len(self.given)]) == self.given:  # in one piece
            whole = slice(0, self.normal * entries)
            return [whole, *(self.span(group, entries) for group in copies[len(self.given) :])]
        return [self.span(group, entries) for group in copies]

    def grow_store(self, store: Any) -> None:
        """Append the perturbed rows to every tensor that an object holds: keys and values of an earlier call."""
        _replace(store, lambda tensor: torch.cat([tensor, tensor[self.span("cond")]]))

    def trim_store(self, store: Any) -> None:
        """The inverse of :meth:`grow_store`; tensors without perturbed rows stay as they are."""
        _replace(store, lambda tensor: tensor[: self.normal] if tensor.shape[0] == self.total else tensor)

    def trim_stores(self, value: Any) -> None:
        """The same for whatever is one of a nest: what holds keys and values of a layer."""
        if isinstance(value, Mapping):
            value = list(value.values())  # pyright: ignore
        if isinstance(value, list | tuple):
            for item in value:  # pyright: ignore
                self.trim_stores(item)
        elif hasattr(value, "store") and hasattr(value, "get"):
            self.trim_store(value)

    def share(self, stage: Stage) -> bool:
        """Whether any two groups are equal."""
        return len(self.groups) > 1 and (stage == Stage.START or (stage == Stage.TEXT and self.perturbed))

    def of_prompt(self, value: Any) -> Any:
        """A copy of the prompt's rows of every tensor of a nest. What stands twice still does."""
        done: dict[int, Tensor] = {}

        def one(tensor: Tensor) -> Tensor:
            if id(tensor) not in done:
                own = self.span("cond", entries) if (entries := self._entries(tensor)) else slice(None)
                done[id(tensor)] = tensor[own].clone()
            return done[id(tensor)]

        return mapped(one, value)

    def take(self, value: Any, stage: Stage) -> Any:
        """Only the distinct rows of every tensor of a nest."""

        def one(tensor: Tensor) -> Tensor:
            if not (entries := self._entries(tensor)):
                return tensor
            return tensor[self.span("cond", entries) if stage == Stage.START else slice(0, self.normal * entries)]

        return mapped(one, value)

    def take_stacked(self, value: Any, stage: Stage) -> Any:
        """The same for tensors that hold all rows, and after them all rows once more or entries that serve all."""
        return mapped(lambda tensor: torch.cat([self.take(part, stage) for part in tensor.split(self.total)]), value)

    def carried_by(self, value: Any) -> bool:
        """Whether a nest holds tensors, and the first of them carries the grown rows."""
        first = next(tensors(value), None)
        return first is not None and self._entries(first) > 0

    def spread(self, value: Any, stage: Stage) -> Any:
        """The inverse of :meth:`take` on a module's output."""
        done: list[tuple[Tensor, Tensor]] = []

        def one(tensor: Tensor) -> Tensor:
            # What stands twice still must: the U-Net adds a T2I-Adapter's features to a block's output in place, and
            # so to the residual connection, which is the same tensor.
            for before, after in done:
                if before is tensor:
                    return after
            if stage == Stage.START:
                after = torch.cat([tensor] * len(self.groups))
            else:
                after = torch.cat([tensor, tensor[self.span("cond", tensor.shape[0] // self.normal)]])
            done.append((tensor, after))
            return after

        return mapped(one, value)

    def split(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The normal and the perturbed rows of a tensor; one that carries no rows serves both."""
        if not (entries := self._entries(tensor)):
            return tensor, tensor
        return tensor[: self.normal * entries], tensor[self.normal * entries :]

    def repeat(self, tensor: Tensor) -> Tensor:
        """The rows of one group, once for each group that the pipeline passed."""
        return torch.cat([tensor] * len(self.given))

    def equal(self, value: Any) -> bool:
        """Whether all given groups of every tensor are equal (waits for the device)."""
        alike = True

        def one(tensor: Tensor) -> Tensor:
            nonlocal alike
            if tensor.ndim and tensor.shape[0] == self.normal:
                first, *others = tensor.split(self.size)
                alike = alike and all(torch.equal(first, other) for other in others)
            return tensor

        mapped(one, value)
        return alike

    def _entries(self, tensor: Tensor) -> int:
        """Entries of the first dimension for each row of the grown call, or 0 if it carries no rows."""
        if tensor.ndim == 0 or tensor.shape[0] % self.total:
            return 0
        return tensor.shape[0] // self.total


def shapes_of_rows(rows: Any) -> tuple[Any, ...]:
    """The shape of each row of a tensor or of a list, whose items may be lists."""
    if isinstance(rows, Tensor):
        return (rows.shape[1:],) * len(rows)
    return tuple(one.shape if isinstance(one, Tensor) else shapes_of_rows(one) for one in rows)


def halves_equal(sample: Tensor) -> bool:
    """Whether the second half of the rows repeats the first (waits for the device)."""
    half = sample.shape[0] // 2
    return sample.shape[0] % 2 == 0 and torch.equal(sample[:half], sample[half:])


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of a nest."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:  # pyright: ignore
            yield from tensors(item)


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A nest with other tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        items: dict[Any, Any] = {key: mapped(function, item) for key, item in value.items()}  # pyright: ignore
        return items if type(value) is dict else type(value)(**items)  # pyright: ignore
    if isinstance(value, list | tuple):
        return type(value)([mapped(function, item) for item in value])  # pyright: ignore
    return value


def _replace(store: Any, function: Callable[[Tensor], Tensor]) -> None:
    for name, value in list(vars(store).items()):
        if isinstance(value, Tensor):
            setattr(store, name, function(value))
        elif isinstance(value, list):
            for item in value:  # pyright: ignore
                _replace(item, function)
