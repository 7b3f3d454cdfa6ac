"""The names of the PAG classes, formed from those of diffusers' pipeline classes."""

import difflib
import re
from typing import Any

import diffusers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from pag.pipelines._sister import has_denoiser, name_of, pag_pipeline

_NAME = re.compile(r"(?P<stem>\w*?)PAG(?P<task>(?:Img2Img|Inpaint)?Pipeline)")


def pipeline_class(name: str) -> Any:
    """The PAG class of a name: `XPAGPipeline` for diffusers' `XPipeline`.

    Of a task's class, such as `XImg2ImgPipeline`, both `XImg2ImgPAGPipeline` and `XPAGImg2ImgPipeline` are understood.

    Raises:
        AttributeError: if diffusers has no such pipeline class, or PAG has no place in it.
        ImportError: if the class needs a package that is not installed.
    """
    match = _NAME.fullmatch(name)
    plain = f"{match['stem']}{match['task']}" if match else ""
    if plain not in _plain_names():
        nearest = difflib.get_close_matches(name, [name_of(plain) for plain in _plain_names()], n=5)
        raise AttributeError(
            f"module 'pag' has no attribute {name!r}. For diffusers' XPipeline there is XPAGPipeline"
            f"{'. Nearest: ' + ', '.join(nearest) if nearest else ''}."
        )
    try:
        return pag_pipeline(getattr(diffusers, plain))
    except TypeError as error:
        raise AttributeError(f"module 'pag' has no attribute {name!r}: {error}") from None


def pipeline_names() -> tuple[str, ...]:
    """The names of all PAG classes for the installed diffusers, without pipelines that it has given up on."""
    return tuple(name_of(name) for name in _plain_names() if _is_current(name))


def _plain_names() -> list[str]:
    pipelines = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    return [name for name in pipelines if "PAG" not in name and "Modular" not in name]


def _is_current(name: str) -> bool:
    try:
        cls: Any = getattr(diffusers, name)
    except (ImportError, RuntimeError):  # a package that it needs is broken
        return False
    # What needs a package that is missing is no pipeline, but a stand-in that says so.
    current = isinstance(cls, type) and issubclass(cls, DiffusionPipeline) and ".deprecated." not in cls.__module__
    return current and has_denoiser(cls)
