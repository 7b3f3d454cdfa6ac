"""What is guided, where, when and how strongly: one frozen configuration that survives a trip through JSON."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pag.perturbations import METHODS
from pag.reuse import Reuse
from pag.schedule import Schedule


@dataclass(frozen=True)
class Guidance:
    """Settings of perturbed-attention guidance.

    Args:
        scale: s in ``guided + s·(c − ĉ)``; finite, 0 (off) or more.
        layers: names of the self-attention layers to perturb (see :mod:`pag.layers`); ``None`` takes the
            layers recommended for the family of the network.
        start: progress (0 is pure noise, 1 is clean) at which guidance begins.
        stop: progress at which guidance ends.
        adaptive_scale: a in ``max(0, s − a·(1000 − t))``; 0 keeps the scale constant.
        perturbation: name of the method; ``"identity"`` is PAG, ``"sag"`` self-attention guidance.
        share_rows: compute rows that are still equal only once. Exact, so there is no reason to switch it
            off but to measure what it saves.
        low_memory: run the perturbed rows after the others, which leave them what both have in common. Exact, with as
            many operations, for less memory (see `pag.memory`).
        reuse: in which steps deltas are computed; in all if ``None``, and only that is exact.
    """

    scale: float = 3.0
    layers: tuple[str, ...] | None = None
    start: float = 0.0
    stop: float = 1.0
    adaptive_scale: float = 0.0
    perturbation: str = "identity"
    share_rows: bool = True
    low_memory: bool = False
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        _ = self.schedule  # its checks are ours
        for name in ("scale", "start", "stop", "adaptive_scale"):  # JSON knows no numbers of NumPy
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.layers is not None:
            if not isinstance(self.layers, list | tuple) or not all(isinstance(name, str) for name in self.layers):
                raise TypeError(f"layers must be a sequence of names, but are {self.layers!r}.")
            object.__setattr__(self, "layers", tuple(self.layers))  # equal and hashable, whatever was passed
        if isinstance(self.reuse, dict):  # from JSON
            _check_known("settings of reuse", self.reuse, Reuse)
            object.__setattr__(self, "reuse", Reuse(**self.reuse))
        if not isinstance(self.reuse, Reuse | None):
            raise TypeError(f"reuse must be a pag.Reuse or None, but is {self.reuse!r}.")
        if self.perturbation not in METHODS:
            raise ValueError(f"perturbation={self.perturbation!r} does not exist. There is: {', '.join(METHODS)}.")

    @property
    def schedule(self) -> Schedule:
        """The scale over the noise levels."""
        return Schedule(self.scale, self.start, self.stop, self.adaptive_scale)

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"Settings must be a JSON object, but are {text[:80]}.")
        _check_known("settings", values, cls)
        return cls(**values)


def _check_known(what: str, values: dict[str, Any], kind: type[Any]) -> None:
    known = [field.name for field in fields(kind)]
    if unknown := [name for name in values if name not in known]:
        raise ValueError(f"Unknown {what} {unknown}. Possible are: {', '.join(known)}.")
