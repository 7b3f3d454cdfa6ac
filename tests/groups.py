"""Modules of tests that go by the classes that diffusers has: an older diffusers has fewer."""

from importlib import import_module
from typing import Any

import diffusers

from pag.catalog import catalog


def tables(package: str, name: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """The dictionaries of that name in the modules of a package, as one.

    At the version of diffusers that the list of pipelines is for, all of them; of an older one, those that import.
    """
    joined: dict[str, Any] = {}
    for module in modules:
        try:
            joined |= getattr(import_module(f"{package}.{module}"), name)
        except (ImportError, AttributeError):
            if diffusers.__version__ == catalog()[0]:
                raise
    return joined
