"""Every pipeline class of diffusers: whether it can be guided, what shows it, and what is recommended.

The judgements are recorded in ``assets/pipelines.json``, which ``python -m tests.catalog_page`` writes from the tests.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Verdict = Literal["works", "refused", "nothing"]


@dataclass(frozen=True)
class Entry:
    """One pipeline class.

    Args:
        pipeline: name of the class.
        verdict: ``"works"``; ``"refused"``, guidance is an error; ``"nothing"``, there is no self-attention to perturb.
        because: which test shows that it works, or why it does not.
        drop_in: name of the class of this package with guidance built in, or ``""``.
        denoiser: class names of its denoisers.
        layers: the recommended layers, by name or as a relative depth (0.5: the middle one).
        scale: the recommended scale.
        source: where the recommendation comes from.
    """

    pipeline: str
    verdict: Verdict
    because: str
    drop_in: str = ""
    denoiser: tuple[str, ...] = ()
    layers: tuple[str, ...] | float | None = None
    scale: float | None = None
    source: str = ""


@cache
def catalog() -> tuple[str, tuple[Entry, ...]]:
    """The version of diffusers that was judged, and its pipeline classes by name."""
    record = json.loads((files("pag") / "assets" / "pipelines.json").read_text())
    return record["diffusers"], tuple(_entry(values) for values in record["pipelines"])


def _entry(values: dict[str, object]) -> Entry:
    frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}  # pyright: ignore
    return Entry(**frozen)  # pyright: ignore
