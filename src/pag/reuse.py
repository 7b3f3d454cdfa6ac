"""Reuse of deltas: what guidance adds changes slowly over the steps, so it need not be computed in each of them.

Approximate, and off unless asked for. A delta is the difference of the prompt's prediction and another one:
``c − ĉ`` of perturbed-attention guidance, ``c − u`` of classifier-free guidance. Between two steps that compute it the
last one is held: the rows that it would need are not run, and ``ĉ`` and ``u`` are ``c`` less that delta.

Holding lags behind. So the step that computes ``d`` anew, after ``n`` steps that held ``d₀``, also repays most of what
these missed, had the delta grown evenly: it adds ``repay·n/2·(d − d₀)``. With fewer than 25 steps it repays less, in
proportion to their number: in runs of 10 steps the whole share was worse than none. The last step, which nothing could
put right any more, does not repay.

A gate ends classifier-free guidance for the rest of a run, once ``u`` is so similar to ``c`` that little is left to
add: adaptive guidance (arXiv 2312.12487).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pag.combine import last_tokens
from pag.schedule import check_number

Delta = Sequence[Tensor]
"""For each prediction of the network, float[size, …]."""


_USUAL_STEPS = 25
"""Where nothing tells how many steps a run has, and from which number on all is repaid that is asked for."""


@dataclass(frozen=True)
class Reuse:
    """How often deltas are computed: in the first step, once in so many, and once more near the end.

    ``c − u`` is looked at once more in the last step but one, ``c − ĉ``, which changes most at the end, in the last.
    Between, the two are computed in different steps if they can be. Of a share of the run the first interval is longer
    than those that follow, half as much again for ``c − u`` and ¾ for ``c − ĉ``: what is wrong in the first steps
    shows least.

    Args:
        pag: compute ``c − ĉ`` once in so many steps: a whole number of them, 1 or more, or a share of the run below 1.
        cfg: the same for ``c − u``; to all negative prompts, if there are several.
        repay: which share of what was missed between two computations is made up for, from 0 to 1. It is that of a run
            of 25 steps or more; of 10 steps it is 10/25 of it.
        gate: cosine similarity of ``c`` and ``u``, 0 to 1, at which classifier-free guidance ends: in the rest of the
            run negative prompts are left out, and no delta is in their place. All images of a call, and all its
            negative prompts, must have reached it. Where self-attention guidance starts from ``u``, it goes on. To
            compare them waits for the device in each step that computes ``u``. ``None``: no gate.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range.
    """

    pag: int | float = 1
    cfg: int | float = 1
    repay: float = 0.75
    gate: float | None = None

    def __post_init__(self) -> None:
        for name in ("pag", "cfg"):
            object.__setattr__(self, name, _interval(name, getattr(self, name)))
        check_number("repay", self.repay, most=1.0)
        object.__setattr__(self, "repay", float(self.repay))  # JSON knows no numbers of NumPy
        if self.gate is not None:
            check_number("gate", self.gate, most=1.0)
            object.__setattr__(self, "gate", float(self.gate))

    def every(self, group: str, steps: int | None, parts: int = 1) -> float:
        """Once in how many calls the delta to a group of rows is computed.

        Args:
            group: the group.
            steps: number of calls in the run, if it is known.
            parts: calls that make a step of the scheduler. A share of its steps is computed, and of steps of two parts
                an odd number of calls lies between: an even one would only ever see the same part.
        """
        every = self._setting(group)
        if every < 1:
            every *= _of_scheduler(steps, parts)
        every = max(1, every)
        return 2 * math.ceil((every - 1) / 2) + 1 if parts == 2 else every

    def repaid(self, steps: int | None, parts: int = 1) -> float:
        """Which share of what was missed is made up for in a run.

        Args:
            steps: number of calls in the run, if it is known.
            parts: calls that make a step of the scheduler.
        """
        return self.repay * min(1.0, math.ceil(_of_scheduler(steps, parts)) / _USUAL_STEPS)

    def holds(self, group: str, every: float) -> bool:
        """Whether some steps need not compute the delta to a group of rows.

        Args:
            group: the group.
            every: its interval.
        """
        return every != 1 or (group != "perturbed" and self.gate is not None)

    def later(self, group: str, every: float, begun: int) -> float:
        """How many calls later than after an interval the second computation is.

        Args:
            group: the group.
            every: its interval.
            begun: the call of the first computation.
        """
        if self._setting(group) < 1 and begun == 0:
            return every * (0.75 if group == "perturbed" else 0.5)
        return every // 2 if group == "perturbed" and self.cfg != 1 else 0

    def _setting(self, group: str) -> int | float:
        return self.pag if group == "perturbed" else self.cfg


def _of_scheduler(steps: int | None, parts: int) -> float:
    """How many steps of the scheduler so many calls are; as many as usual, if nobody knows."""
    return steps / parts if steps else _USUAL_STEPS


def _interval(name: str, value: object) -> int | float:
    allowed = "a whole number of steps, 1 or more, or a share of the run above 0 and below 1"
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be {allowed}, but is {value!r}.")
    number = float(value)
    if not (0 < number < 1 or (1 <= number < math.inf and number.is_integer())):
        raise ValueError(f"{name} must be {allowed}, but is {value!r}.")
    return number if number < 1 else int(number)


SPEEDS: Mapping[str, Reuse | None] = {"exact": None, "fast": Reuse(pag=0.175, cfg=0.14)}
"""By name, what suits most."""


def reuse_of(speed: str | None, reuse: Reuse | None) -> Reuse | None:
    """What to reuse.

    Args:
        speed: a name of :data:`SPEEDS`, or None.
        reuse: the same in detail, or None.

    Raises:
        ValueError: if there is no such name, or both are given.
    """
    if speed is None:
        return reuse
    if speed not in SPEEDS:
        raise ValueError(f"speed={speed!r} does not exist. There is: {', '.join(SPEEDS)}.")
    if reuse is not None:
        raise ValueError(f"speed={speed!r} and reuse={reuse} are two names of one setting. Leave one out.")
    return SPEEDS[speed]


@final
class _History:
    """One delta in the steps of a run."""

    def __init__(self) -> None:
        self.last: Delta = ()
        """As it was computed last."""
        self.step = 0
        """In which step."""
        self.begun = 0
        """In which step it was computed first."""
        self.computed = 0
        """How often it was."""
        self.held = 0
        """How often it was held since."""
        self.ended = math.inf
        """The last step that guided: from then on there is no delta."""

    def add(self, step: int, delta: Delta, repay: float) -> Delta:
        """Keep a delta that was computed; what to use in its place repays what was missed."""
        used = delta
        if self.held and repay and [one.shape for one in self.last] == [one.shape for one in delta]:
            ahead = repay * self.held / 2
            used = [new + ahead * (new - old) for old, new in zip(self.last, delta, strict=True)]
        self.begun = self.begun if self.computed else step
        self.last, self.step, self.held, self.computed = delta, step, 0, self.computed + 1
        return used

    def end(self, step: int) -> None:
        """Make a step the last one that guided."""
        self.ended, self.last = min(step, self.ended), [torch.zeros_like(one) for one in self.last]

    def hold(self) -> Delta:
        """The last delta, once more."""
        self.held += 1
        return self.last


@final
class Deltas:
    """What one run keeps of the deltas, of one of the places that a step calls the network for (a tile, say).

    Args:
        reuse: how often they are computed.
        key: what must stay as it is for them to be good: the network, the number and shape of rows.
    """

    def __init__(self, reuse: Reuse, key: Hashable = None) -> None:
        self.key = key
        self.step = -1
        """The step that is under way."""
        self.c: Delta | None = None
        """The prompt's prediction in this step, for calls of the network without its rows."""
        self.output: Any = None
        """What the network returned for it."""
        self._reuse = reuse
        self._steps: int | None = None
        self._parts = 1
        self._others = 0
        self._histories: dict[str, _History] = {}
        self._promised = -1

    def begin(self, step: int, steps: int | None, parts: int = 1) -> None:
        """Begin a step.

        Args:
            step: its number, from 0.
            steps: how many there are, if that is known.
            parts: how many of them make a step of the scheduler.
        """
        self.step, self.c, self.output, self._others = step, None, None, 0
        self._steps, self._parts = steps, parts

    def another(self, group: str) -> str:
        """A name for the group of the next call without the prompt's rows: a step may make several for one."""
        self._others += 1
        return f"{group} {self._others}"

    def keep(self, c: Delta, output: Any) -> None:
        """Keep the prompt's prediction for calls of the network without its rows, if they may be left out."""
        if self._held("uncond"):
            self.c, self.output = c, output

    def left_out(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Those of the groups that need not be computed in this step."""
        others = [group for group in groups if group != "perturbed"]
        due = [group for group in groups if self._due(group, self.step)]
        if self.promised(self.step):
            due = [group for group in due if group == "perturbed"]
        if any(group in due for group in others):  # all negative prompts are run, or none is
            due += others
        return tuple(group for group in groups if group not in due)

    def promise(self, step: int, others: Sequence[str]) -> bool:
        """Whether no negative prompt need be computed in a step to come. If so, none is.

        Args:
            step: its number.
            others: the groups of the negative prompts.
        """
        if any(self._due(group, step) for group in others):
            return False
        self._promised = step
        return True

    def promised(self, step: int) -> bool:
        """Whether that was said of a step: what runs ahead of the network has left these rows out then."""
        return self._promised == step

    def completed(self, c: Delta, computed: Mapping[str, Delta], left_out: Sequence[str]) -> dict[str, Delta]:
        """The predictions of all groups.

        Args:
            c: those of the prompt.
            computed: those of the groups that were computed. Their deltas are kept.
            left_out: the groups that were not.
        """
        every: dict[str, Delta] = {}
        repay = 0.0 if self._left(0, self.step) else self._reuse.repaid(self._steps, self._parts)
        for group, one in computed.items():
            delta = [last_tokens(a, b) - b for a, b in zip(c, one, strict=True)]
            used = self._history(group).add(self.step, delta, repay) if self._held(group) else delta
            if self._ends(group, c, one):
                self._history(group).end(self.step)
            every[group] = one if used is delta else _less(c, used)
        return every | {group: _less(c, self._history(group).hold()) for group in left_out}

    def _history(self, group: str) -> _History:
        return self._histories.setdefault(group, _History())

    def _due(self, group: str, step: int) -> bool:
        history, every = self._histories.get(group), self._every(group)
        if history is None:
            return True
        if step > history.ended:
            return False
        if every == 1:
            return True
        late = self._left(0 if group == "perturbed" else 1, step) and step - history.step > 1
        later = self._reuse.later(group, every, history.begun)
        return late or step >= history.begun + later + every * history.computed

    def _ends(self, group: str, c: Delta, other: Delta) -> bool:
        """Whether this step is the last one that guides away from a group."""
        gate = self._reuse.gate
        if group == "perturbed" or gate is None:
            return False
        return self._history(group).ended < self.step or _similarity(c, other) >= gate

    def _held(self, group: str) -> bool:
        return self._reuse.holds(group, self._every(group))

    def _every(self, group: str) -> float:
        return self._reuse.every(group, self._steps, self._parts)

    def _left(self, count: int, step: int) -> bool:
        """Whether so many steps are left after one."""
        return self._steps is not None and self._steps - 1 - step == count


def _similarity(c: Delta, other: Delta) -> float:
    """Cosine similarity of those images, and predictions, that are least similar."""
    pairs = ((last_tokens(a, b).flatten(1).float(), b.flatten(1).float()) for a, b in zip(c, other, strict=True))
    return min(float(cosine_similarity(a, b).min()) for a, b in pairs)


def _less(c: Delta, delta: Delta) -> Delta:
    return [last_tokens(a, d) - d for a, d in zip(c, delta, strict=True)]
