"""Which class an image is of: a function of its seed alone, as its noise is."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from pag.adm.labels import label_ids
from pag.generate.errors import UserError, mendable

__all__ = ["Classes", "class_of_seed"]

Classes = str | Sequence[int | str]
"""`"none"`, `"random"`, `"balanced"`, `"auto"`, or labels and names."""

WAYS = ("none", "random", "balanced")


def class_of_seed(pipe: Any, classes: Classes, wanted: bool) -> tuple[str, Callable[[int], int] | None]:
    """How classes are chosen, as text that is the same for the same choice, and the class of a seed, if there is any.

    Args:
        pipe: an `ADMPipeline`.
        classes: `"random"` takes any class, `"balanced"` one after the other, a list those in it, in turn, and
            `"auto"` is random where there are classes.
        wanted: whether something but the denoiser needs a class.

    Raises:
        UserError: there is no such class, the model has none, or it needs one.
    """
    count: int | None = pipe.num_classes
    needed = wanted or pipe.unet.config.num_class_embeds is not None
    way = ("random" if needed else "none") if classes == "auto" else classes
    if way == "none":
        if needed:
            raise UserError("this model is given a class for each image: choose random, balanced, or a list of classes")
        return "none", None
    if not needed or count is None:
        raise UserError(f"this model knows no classes, so there is no {classes!r}: choose none")
    if way == "random":
        return "random", lambda seed: _random(seed, count)
    if way == "balanced":
        return "balanced", lambda seed: seed % count
    labels = _labels(pipe, way, count)
    return ",".join(str(label) for label in labels), lambda seed: labels[seed % len(labels)]


def _random(seed: int, count: int) -> int:
    """Of its own stream, since the seed's numbers are the noise."""
    digest = hashlib.sha256(f"class of seed {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def _labels(pipe: Any, chosen: str | Sequence[int | str], count: int) -> list[int]:
    words = [word.strip() for word in chosen.split(",") if word.strip()] if isinstance(chosen, str) else list(chosen)
    if not words:
        raise UserError(f"no class is named. There is: {', '.join(WAYS)}, or a list of classes")
    labels = [int(word) if isinstance(word, str) and word.lstrip("-").isdigit() else word for word in words]
    with mendable(f"cannot take the classes {chosen!r}", ValueError, TypeError):
        return label_ids(labels, pipe.id2label, count)
