"""Classes of images by number and by name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import torch

__all__ = ["Label", "imagenet_names", "label_ids", "names_by_number"]

Label = int | str


@cache
def _imagenet() -> tuple[str, ...]:
    return tuple((files("pag") / "assets" / "imagenet.txt").read_text("utf-8").splitlines())


def imagenet_names() -> dict[int, str]:
    """The names of ImageNet's 1,000 classes by number, from WordNet."""
    return dict(enumerate(_imagenet()))


def names_by_number(id2label: Mapping[Any, str]) -> dict[int, str]:
    """The names of classes by number. JSON knows text for keys only, so numbers may come as text.

    Raises:
        TypeError: if it is no mapping of numbers to text.
    """
    named: dict[int, str] = {}
    for number, name in id2label.items():
        if not isinstance(name, str) or isinstance(number, bool) or not str(number).isdigit():
            raise TypeError(f'id2label must be like {{0: "tench, Tinca tinca"}}, but has {number!r}: {name!r}.')
        named[int(number)] = name
    return named


def label_ids(labels: Any, names: Mapping[int, str], count: int | None) -> list[int]:
    """The numbers of classes.

    Args:
        labels: a number, a name, or several in a list, a tuple or a tensor.
        names: names by number; of synonyms with commas between them each is one.
        count: how many classes there are, if that is known.

    Raises:
        ValueError: if there is no such class; the message tells those whose names are nearest.
        TypeError: if a label is neither a number nor a name.
    """
    if isinstance(labels, torch.Tensor) or hasattr(labels, "tolist"):
        labels = labels.tolist()
    several: Iterable[Any] = labels if isinstance(labels, list | tuple) else [labels]
    found = [_number(label, names, count) for label in several]
    if not found:
        raise ValueError("class_labels is an empty list. Pass at least one class, or leave it out.")
    return found


def _number(label: Any, names: Mapping[int, str], count: int | None) -> int:
    if isinstance(label, str):
        return _number_of_name(label, names)
    if hasattr(label, "item"):
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int):
        raise TypeError(f"A class label is a number or a name, but got {type(label).__name__} {label!r}.")
    if label < 0 or (count is not None and label >= count):
        known = "they count from 0" if count is None else f"the model knows {count}, from 0 to {count - 1}"
        raise ValueError(f"There is no class {label}: {known}.")
    return label


def _number_of_name(name: str, names: Mapping[int, str]) -> int:
    numbers: dict[str, set[int]] = {}
    for number, synonyms in names.items():
        for one in (synonyms, *synonyms.split(",")):
            numbers.setdefault(_plain(one), set()).add(number)
    found = sorted(numbers.get(_plain(name), ()))
    if len(found) == 1:
        return found[0]
    if found:  # ImageNet has two cranes
        several = ", ".join(f"{number} ({names[number]})" for number in found)
        raise ValueError(f"{name!r} is the name of several classes: {several}. Pass the number.")
    if not numbers:
        raise ValueError(f"There is no class {name!r}: this model's classes have no names, so pass numbers.")
    near = get_close_matches(_plain(name), numbers, n=4, cutoff=0.5)
    hint = (
        f"Nearest: {', '.join(f'{one!r} ({min(numbers[one])})' for one in near)}." if near else "See `pipe.id2label`."
    )
    raise ValueError(f"There is no class {name!r}. {hint}")


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
