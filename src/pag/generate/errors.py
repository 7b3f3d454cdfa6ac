"""The one exception for what its reader can put right."""

from collections.abc import Generator
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import final

__all__ = ["UserError", "mendable", "nearest_first"]


@final
class UserError(ValueError):
    """A request that cannot be met. The message is one line: what was given, what is possible."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextmanager
def mendable(context: str, *kinds: type[Exception]) -> Generator[None, None, None]:
    """Turn exceptions of `kinds` into a `UserError` that opens with `context`.

    For the few calls whose failures come from the request, not from a bug of ours: reading a file, loading a
    model, resolving a layer name.
    """
    try:
        yield
    except kinds as error:
        raise UserError(f"{context}: {_first_paragraph(error)}") from error


def _first_paragraph(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip() or type(error).__name__
    return text.split("\n\n")[0]


def nearest_first(given: str, possible: list[str]) -> list[str]:
    """`possible`, those most like `given` first, otherwise in their own order."""

    def unlikeness(name: str) -> float:
        return -SequenceMatcher(None, given.lower(), name.lower()).ratio()

    return sorted(possible, key=unlikeness)
