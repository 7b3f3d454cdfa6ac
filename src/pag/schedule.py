"""The guidance scale over the noise levels of a sampling run."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Schedule:
    """A scale that is constant inside an interval, or falls linearly, and is 0 elsewhere.

    Args:
        scale: s, the guidance scale at the start; finite and not negative.
        start: progress at which guidance begins. Progress is 0 at pure noise and 1 at the clean image:
            ``1 − t/T`` for timestep t of T training timesteps. So the interval means the same noise levels
            whatever the scheduler, the number of steps or the strength of an image-to-image run. (Schedulers
            with continuous timesteps, such as EDM's, count the share of the steps instead.)
        stop: progress at which guidance ends (exclusive, except that 1.0 includes the last step).
        adaptive_scale: a, the fall per thousandth of progress: ``max(0, s − a·(1000 − t))``. 0 is constant.
            Useful values lie between 0.001 and 0.01; 0.2 ends the guidance after 15 timesteps.
    """

    scale: float
    start: float = 0.0
    stop: float = 1.0
    adaptive_scale: float = 0.0

    def __post_init__(self) -> None:
        check_number("scale", self.scale)
        check_number("adaptive_scale", self.adaptive_scale)
        check_number("start", self.start, most=1.0)
        check_number("stop", self.stop, most=1.0)
        if self.start >= self.stop:
            raise ValueError(
                f"start={self.start} must be below stop={self.stop}: both are fractions of the noise levels."
            )

    @property
    def varies(self) -> bool:
        """Whether the scale depends on the noise level."""
        return self.adaptive_scale > 0 or self.start > 0 or self.stop < 1

    def now(self, progress: Callable[[], float]) -> float:
        """The scale at a progress that is asked for only if it matters: asking may wait for the device."""
        return self.at(progress()) if self.varies else self.scale

    def at(self, progress: float) -> float:
        """The scale at a progress from 0 (pure noise) to 1 (clean)."""
        if progress < self.start or (progress >= self.stop and self.stop < 1):
            return 0.0
        return max(0.0, self.scale - self.adaptive_scale * 1000 * progress)


def check_number(name: str, value: object, *, most: float = math.inf) -> None:
    """Raise unless the value is a finite number from 0 to ``most``."""
    allowed = "a finite number, 0 or more" if most == math.inf else f"a number from 0 to {most:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {allowed}, but is {value!r} ({type(value).__name__}).")
    try:
        number = float(value)
    except OverflowError:  # of an integer that no float is large enough for
        number = math.inf
    if not 0 <= number <= min(most, sys.float_info.max):
        raise ValueError(f"{name} must be {allowed}, but is {value!r}.")
