"""Which class an image is of: a function of its seed alone, as its noise is."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pag.generate.errors import UserError, nearest_first

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
    count = _count(pipe)
    needed = wanted or _conditional(pipe)
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
    names = [word.strip() for word in way.split(",") if word.strip()] if isinstance(way, str) else way
    labels = [_label(pipe, name, count) for name in names]
    if not labels:
        raise UserError(f"no class is named. There is: {', '.join(WAYS)}, or a list of classes")
    return ",".join(str(label) for label in labels), lambda seed: labels[seed % len(labels)]


def _random(seed: int, count: int) -> int:
    """Of its own stream, since the seed's numbers are the noise."""
    digest = hashlib.sha256(f"class of seed {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def _conditional(pipe: Any) -> bool:
    return getattr(pipe.unet.config, "num_class_embeds", None) is not None


def _count(pipe: Any) -> int | None:
    if _conditional(pipe):
        return int(pipe.unet.config.num_class_embeds)
    classifier: Any = getattr(pipe, "classifier", None)
    found = [getattr(getattr(classifier, "config", None), name, None) for name in ("num_classes", "out_channels")]
    return next((int(count) for count in found if count is not None), None)


def _label(pipe: Any, name: int | str, count: int) -> int:
    text = str(name)
    if text.lstrip("-").isdigit():
        if not 0 <= int(text) < count:
            raise UserError(f"no class {text}: the model has {count}, from 0 to {count - 1}")
        return int(text)
    names = _names(pipe)
    if text.lower() not in names:
        near = ", ".join(nearest_first(text, sorted(names))[:3]) or "numbers only"
        raise UserError(f"no class {text!r}. There is: {near}")
    return names[text.lower()]


def _names(pipe: Any) -> dict[str, int]:
    """Labels by each of their names."""
    known = cast("Mapping[int | str, str]", getattr(pipe, "id2label", None) or getattr(pipe, "labels", None) or {})
    pairs = [(name.strip().lower(), int(label)) for label, names in known.items() for name in names.split(",")]
    return dict(reversed(pairs))
