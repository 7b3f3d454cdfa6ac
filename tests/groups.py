"""Tests that go by the classes that diffusers has: an older diffusers has fewer."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import diffusers
import pytest

from pag.catalog import catalog

COMPLETE = diffusers.__version__ == catalog()[0]
"""Whether this is the diffusers that the list of pipelines is for."""


def tables(package: str, name: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """The dictionaries of that name in the modules of a package as one; with an older diffusers, of what imports."""
    joined: dict[str, Any] = {}
    for module in modules:
        try:
            joined |= getattr(import_module(f"{package}.{module}"), name)
        except (ImportError, AttributeError):
            if COMPLETE:
                raise
    return joined


@contextmanager
def building() -> Generator[None]:
    """Skip a test if an older diffusers lacks what is built here."""
    try:
        yield
    except (KeyError, TypeError) as error:
        if COMPLETE:
            raise
        pytest.skip(f"diffusers {diffusers.__version__} lacks it: {error}")
