"""Reuse of deltas: what guidance adds changes slowly over the steps, so it need not be computed in each of them.

Approximate, and off unless asked for. A delta is the difference of the prompt's prediction and another one:
``c − ĉ`` of perturbed-attention guidance, ``c − u`` of classifier-free guidance. In the steps between two computations
it is extrapolated, the rows that it would need are not run, and ``ĉ`` and ``u`` are ``c`` less that delta.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

from torch import Tensor

Delta = Sequence[Tensor]
"""For each prediction of the network, float[size, …]."""


@dataclass(frozen=True)
class Reuse:
    """How often deltas are computed. In the first two steps of a run they always are.

    Between them, after deltas ``d₀`` and ``d₁`` in steps ``i₀ < i₁``, that of step ``i`` is
    ``d₁ + damping·(d₁ − d₀)·(i − i₁)/(i₁ − i₀)``.

    Args:
        pag: compute ``c − ĉ`` in every pag-th step; 1 in each.
        cfg: compute ``c − u`` in every cfg-th step; 1 in each. That of all negative prompts, if there are several.
        damping: 0 holds the last delta, 1 continues a straight line.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range.
    """

    pag: int = 1
    cfg: int = 1
    damping: float = 0.5

    def __post_init__(self) -> None:
        for name in ("pag", "cfg"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a number of steps, 1 or more, but is {value!r}.")
            if value < 1:
                raise ValueError(f"{name} must be a number of steps, 1 or more, but is {value}.")
        if isinstance(self.damping, bool) or not isinstance(self.damping, Real):
            raise TypeError(f"damping must be a number from 0 to 1, but is {self.damping!r}.")
        if not 0 <= self.damping <= 1:
            raise ValueError(f"damping must be a number from 0 to 1, but is {self.damping!r}.")

    def every(self, group: str) -> int:
        """In every how many-th step the delta to a group of rows is computed."""
        return self.pag if group == "perturbed" else self.cfg


@final
class _History:
    """One delta in the steps in which it was computed."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._deltas: list[Delta] = []

    def due(self, step: int, every: int) -> bool:
        return len(self._steps) < 2 or step - self._steps[-1] >= every

    def add(self, step: int, delta: Delta) -> None:
        if self._deltas and [one.shape for one in self._deltas[-1]] != [one.shape for one in delta]:
            self._steps, self._deltas = [], []
        self._steps, self._deltas = [*self._steps[-1:], step], [*self._deltas[-1:], delta]

    def at(self, step: int, damping: float) -> Delta:
        (before, last), (old, new) = self._steps, self._deltas
        ahead = damping * (step - last) / (last - before)
        return [b + ahead * (b - a) for a, b in zip(old, new, strict=True)]


@final
class Deltas:
    """What one run keeps of the deltas, of one of the places that a step calls the network for (a tile, say).

    Args:
        reuse: how often they are computed.
        key: what must stay as it is for them to be good: the network, the number and shape of rows.
    """

    def __init__(self, reuse: Reuse, key: Hashable) -> None:
        self.key = key
        self.step = -1
        """The step that is under way."""
        self.c: Delta | None = None
        """The prompt's prediction in this step, for calls of the network without its rows."""
        self.output: Any = None
        """What the network returned for it."""
        self._reuse = reuse
        self._others = 0
        self._histories: dict[str, _History] = {}

    def begin(self, step: int) -> None:
        """Begin a step."""
        self.step, self.c, self.output, self._others = step, None, None, 0

    def another(self, group: str) -> str:
        """A name for the group of the next call without the prompt's rows: a step may make several for one."""
        self._others += 1
        return f"{group} {self._others}"

    def keep(self, c: Delta, output: Any) -> None:
        """Keep the prompt's prediction for calls of the network without its rows, if they may be left out."""
        if self._reuse.cfg > 1:
            self.c, self.output = c, output

    def known(self, groups: Sequence[str]) -> dict[str, Delta]:
        """The deltas to those of the groups that need not be computed in this step."""
        others = [group for group in groups if group != "perturbed"]
        known = [group for group in groups if not self._due(group)]
        if not all(group in known for group in others):  # all negative prompts are run, or none is
            known = [group for group in known if group not in others]
        return {group: self._histories[group].at(self.step, self._reuse.damping) for group in known}

    def add(self, computed: Mapping[str, Delta]) -> None:
        """Keep the deltas that were computed in this step, by group."""
        for group, delta in computed.items():
            if self._reuse.every(group) == 1:
                continue
            self._histories.setdefault(group, _History()).add(self.step, delta)

    def _due(self, group: str) -> bool:
        every = self._reuse.every(group)
        return group not in self._histories or self._histories[group].due(self.step, every)
