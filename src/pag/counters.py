"""Count what runs, operation by operation: floating-point operations, and the bytes that are alive at once."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import FlopCounterMode

from pag.intercept import DispatchMode, makes_new_tensors
from pag.rows import tensors


class _ValuesError(Exception):
    """A tensor has values, which what is done with it may depend on."""


@dataclass(frozen=True)
class _Known:
    """What is known of an operation on tensors of some shapes.

    Args:
        count: of its floating-point operations, where they are counted.
        make: makes what it returns, if that is nothing but new tensors.
    """

    count: int
    make: Callable[[], Any] | None


class _Counter(DispatchMode, ABC):
    """Sees every operation inside this context.

    Without values, on the meta device, an operation is run once: what it makes of tensors of the same shapes is known
    then. That saves most of the time, since many are put together there of simpler ones, in Python.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Hashable, _Known] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = args, kwargs or {}
        try:
            key = func, _described(given)
        except _ValuesError:
            return self._seen(given, *self._run(func, *given))
        known = self._known.get(key)
        if known is None:
            count, output = self._run(func, *given)
            self._known[key] = _Known(count, _maker(func, output))
            return self._seen(given, count, output)
        return self._seen(given, known.count, known.make() if known.make else func(*args, **given[1]))

    @abstractmethod
    def _run(self, func: Any, args: Any, kwargs: Any) -> tuple[int, Any]:
        """Run an operation: the count of those in it, and what it returns."""

    @abstractmethod
    def _seen(self, given: Any, count: int, output: Any) -> Any:
        """Take note of an operation, and return its output."""


def _described(value: Any) -> Hashable:
    """All that an operation on tensors without values depends on."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _ValuesError
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple([_described(item) for item in value])  # pyright: ignore
    if isinstance(value, dict):
        return tuple([(name, _described(item)) for name, item in value.items()])  # pyright: ignore
    return type(value), value  # 1 and 1.0 are equal, but make tensors of different types


def _maker(func: Any, output: Any) -> Callable[[], Any] | None:
    """What makes such an output, if it is nothing but new tensors without values."""
    if isinstance(output, Tensor):
        if not (makes_new_tensors(func) and output.is_meta) or output.storage_offset():
            return None
        shape, stride, dtype = output.shape, output.stride(), output.dtype
        return lambda: torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    if not isinstance(output, list | tuple):
        return None
    makers = [_maker(func, one) for one in output]  # pyright: ignore
    known = [maker for maker in makers if maker is not None]
    kind = type(output)  # pyright: ignore
    return (lambda: kind([make() for make in known])) if len(known) == len(makers) else None


@final
class Operations(_Counter):
    """Counts floating-point operations as torch's own counter does, in a fifth of its time on the meta device.

    Attributes:
        count: how many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def _run(self, func: Any, args: Any, kwargs: Any) -> tuple[int, Any]:
        with FlopCounterMode(display=False) as counter:
            output = func(*args, **kwargs)
        return counter.get_total_flops(), output

    def _seen(self, given: Any, count: int, output: Any) -> Any:
        self.count += count
        return output


@final
class PeakMemory(_Counter):
    """Counts the bytes of tensors that are made inside this context, on any device.

    Attributes:
        bytes: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._alive = 0
        self._counted: weakref.WeakKeyDictionary[UntypedStorage, Any] = weakref.WeakKeyDictionary()

    def leave_out(self, module: nn.Module, *arguments: Any) -> None:
        """A hook: do not count what a module is called with."""
        for storage in _storages(arguments):
            if free := self._counted.get(storage):
                free()

    def _run(self, func: Any, args: Any, kwargs: Any) -> tuple[int, Any]:
        return 0, func(*args, **kwargs)

    def _seen(self, given: Any, count: int, output: Any) -> Any:
        made = _storages(output)
        # What an operation is given and was not made here belongs to somebody else, and so do its views.
        others: Sequence[UntypedStorage] = []
        if any(storage not in self._counted for storage in made):
            others = [storage for storage in _storages(given) if storage not in self._counted]
        for storage in made:
            if storage not in self._counted and storage not in others:
                self._alive += storage.nbytes()
                self._counted[storage] = weakref.finalize(storage, self._free, storage.nbytes())
        self.bytes = max(self.bytes, self._alive)
        return output

    def _free(self, size: int) -> None:
        self._alive -= size


def _storages(value: Any) -> list[UntypedStorage]:
    return [tensor.untyped_storage() for tensor in tensors(value)]
