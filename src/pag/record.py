"""What one pass over a network computes that the next one needs too, of perturbed rows alone: the prompt's rows."""

import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from pag.arguments import Arguments
from pag.intercept import Call, Override
from pag.rows import Rows, mapped, tensors


@final
class UnlikeError(Exception):
    """The next pass is not like the recorded one: texts of different lengths are padded to another length, say."""


@final
class Record:
    """Outputs of modules for the prompt's rows. Each is freed as it is used.

    Args:
        modules: the modules, and which of their arguments carry rows. They do not contain one another.
        model: the network that they are in.
    """

    def __init__(self, modules: Sequence[tuple[nn.Module, Arguments]], model: nn.Module) -> None:
        self._lists = {block: one for one in model.modules() if isinstance(one, nn.ModuleList) for block in one}
        self.overrides = [Override(module, partial(self._answer, module, arguments)) for module, arguments in modules]
        """What steps into the modules, outside of all others."""
        self._rows: Rows | None = None
        self._replays = False
        self._calls: list[_Recorded] = []

    @contextmanager
    def made(self, rows: Rows, *, on: bool) -> Generator[None]:
        """While outputs are recorded, until :meth:`end`.

        Args:
            rows: the rows of the pass.
            on: if not, nothing is recorded.
        """
        self._calls, self._rows = [], rows if on else None
        try:
            yield
        except BaseException:
            self._calls = []
            raise
        finally:
            self._rows = None
        self._calls.reverse()

    def end(self) -> None:
        """From here on the perturbed rows differ."""
        self._rows = None

    @contextmanager
    def replayed(self) -> Generator[bool]:
        """While the modules answer from the record, if there is one, instead of computing.

        Raises:
            UnlikeError: inside, if the modules are not called as they were.
        """
        self._replays = bool(self._calls)
        try:
            yield self._replays
        finally:
            self._calls, self._replays = [], False

    def _answer(self, module: nn.Module, arguments: Arguments, original: Call, *args: Any, **kwargs: Any) -> Any:
        if self._replays and self._calls:
            return self._calls.pop().replay(module, original, *args, **kwargs)
        rows = self._rows
        if rows is None:
            return original(*args, **kwargs)
        self._drop(module, (args, kwargs))
        shapes = [tensor.shape for tensor in tensors((args, kwargs))]
        output = original(*args, **kwargs)
        kept = arguments.of_prompt(rows, output) if arguments.carry(rows, args, kwargs) else None
        self._calls.append(_Recorded(module, len(rows.groups), shapes, kept, output))
        return output

    def _drop(self, module: nn.Module, inputs: Any) -> None:
        """Free what the next block of a list took in whole, and nobody else holds: that one answers by itself."""
        if torch.compiler.is_compiling():
            return
        if len(self._calls) > 1:
            self._calls[-2].free()
        if self._calls:
            last = self._calls[-1]
            series = self._lists.get(module) is self._lists.get(last.module, last)
            last.hand_on(inputs if series else ())


@final
class _Recorded:
    """One call of a module.

    Args:
        module: the module.
        groups: how many groups of rows it was called with.
        shapes: of the tensors that it was called with.
        kept: the prompt's rows of its output; None if it carries no rows, and is computed anew.
        output: its output, as the network got it.
    """

    def __init__(self, module: nn.Module, groups: int, shapes: Sequence[torch.Size], kept: Any, output: Any) -> None:
        self.module = module
        self._groups, self._shapes, self._kept = groups, shapes, kept
        self._pairs: list[tuple[weakref.ref[Tensor], int]] = []
        if not torch.compiler.is_compiling():
            pairs = zip(tensors(output), tensors(kept), strict=False)
            self._pairs = [(weakref.ref(given), id(own)) for given, own in pairs]

    def hand_on(self, inputs: Any) -> None:
        """Look at what the next module is called with."""
        taken = [id(tensor) for tensor in tensors(inputs)]
        self._pairs = [pair for pair in self._pairs if id(pair[0]()) in taken]

    def free(self) -> None:
        """Free what is needed no more. The module after the next one is called now, and nothing else holds it."""
        needless = [own for given, own in self._pairs if given() is None]
        self._pairs = []
        if needless:
            self._kept = mapped(lambda tensor: _like(tensor) if id(tensor) in needless else tensor, self._kept)

    def replay(self, module: nn.Module, original: Call, *args: Any, **kwargs: Any) -> Any:
        """Answer for the module in the next pass.

        Raises:
            UnlikeError: if another module was called then, or one with other tensors, but for their rows.
        """
        now = [tensor.shape for tensor in tensors((args, kwargs))]
        alike = len(now) == len(self._shapes) and all(map(self._alike, self._shapes, now))
        if module is not self.module or not alike:
            raise UnlikeError
        return original(*args, **kwargs) if self._kept is None else self._kept

    def _alike(self, then: torch.Size, now: torch.Size) -> bool:
        differing = [(one, other) for one, other in zip(then, now, strict=False) if one != other]
        rows = len(differing) == 1 and differing[0][0] == self._groups * differing[0][1]
        return len(then) == len(now) and (not differing or rows)


def _like(tensor: Tensor) -> Tensor:
    """A tensor of the same shape without its memory."""
    return tensor.new_zeros(()).expand(tensor.shape)
