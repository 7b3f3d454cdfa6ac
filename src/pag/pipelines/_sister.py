"""The PAG sister of a pipeline class, made on demand from the one mixin."""

import copyreg
import inspect
import re
from threading import RLock
from typing import Any

import diffusers
from diffusers.pipelines.pag.pag_utils import PAGMixin as PeerMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.utils.import_utils import DummyObject

from pag.families import DENOISERS
from pag.pipelines._arguments import CALL_ARGUMENTS
from pag.pipelines._document import example_of
from pag.pipelines.mixin import PAGMixin
from pag.pipelines.stable_diffusion import StableDiffusionPAGPipeline

_OWN = """{plain} with Perturbed-Attention Guidance (PAG, arXiv 2403.17377).

Takes all that `{plain}` takes,
in its constructor, its loaders and its call, and the PAG settings on top. Each step's result is moved by
``s·(c − ĉ)``, from what the denoiser predicts with perturbed self-attention to what it predicts for the prompt. With
``pag_scale=0`` nothing is added, bit for bit.

{summary}"""

_ELSEWHERE = """>>> from {home} import {plain}
>>> from pag import pag_pipeline

>>> pipe = pag_pipeline({plain}).from_pretrained(model)"""

_made: dict[type, type] = {StableDiffusionPipeline: StableDiffusionPAGPipeline}
_making = RLock()


def pag_pipeline(cls: type) -> Any:
    """The PAG sister of a diffusers pipeline class, also of one that diffusers does not know.

    It takes everything that the class takes and the PAG settings on top: `pag_applied_layers` in the constructor and
    its loaders; `pag_scale`, `pag_start`, `pag_stop` and others in the call. It is the same object each time.

    Args:
        cls: a subclass of diffusers' `DiffusionPipeline` with a `unet` or a `transformer`. A class of this package that
            has PAG already comes back itself, and one of diffusers' own PAG classes gives that of the same name here.

    Raises:
        TypeError: if it is no pipeline class, has no denoiser or no call, or has arguments of the same names.
        ImportError: if the class needs a package that is not installed.

    Example:
        >>> from diffusers import FluxPipeline
        >>> pipe = pag.pag_pipeline(FluxPipeline).from_pretrained("black-forest-labs/FLUX.1-dev")
        >>> image = pipe("a corgi", pag_scale=3.0).images[0]
    """
    if isinstance(cls, DummyObject):
        cls()  # raises diffusers' own error: it tells the package
    if not isinstance(cls, type) or not issubclass(cls, DiffusionPipeline):
        raise TypeError(f"Expected a class of diffusers pipelines, but got {_named(cls)}.")
    if issubclass(cls, PAGMixin):
        return cls
    if issubclass(cls, PeerMixin):
        return pag_pipeline(_plain_of_peer(cls))
    with _making:
        if cls not in _made:
            _check(cls)
            _made[cls] = _make(cls)
        return _made[cls]


def set_sister(cls: type, sister: type) -> None:
    """Let :func:`pag_pipeline` give a class that is written out, with a docstring of its own."""
    _made[cls] = sister


def has_denoiser(cls: type) -> bool:
    """Whether pipelines of a class have a denoiser and a call that uses it."""
    calls = any("__call__" in vars(base) for base in cls.__mro__)
    return calls and any(name in inspect.signature(cls.__init__).parameters for name in DENOISERS)


def name_of(plain: str) -> str:
    """The name of the PAG sister: where diffusers has one, diffusers' name, else the one with PAG before `Pipeline`."""
    peer = re.sub(r"(?=(?:Img2Img|Inpaint)Pipeline$)", "PAG", plain)
    return (
        peer if peer != plain and peer in dir(diffusers) else re.sub(r"(?:Pipeline)?$", "PAGPipeline", plain, count=1)
    )


def _named(given: object) -> str:
    if isinstance(given, DiffusionPipeline):
        return f"an object of {type(given).__name__}: pass its class"
    return given.__name__ if isinstance(given, type) else f"{type(given).__name__} {given!r}"


def _plain_of_peer(cls: type) -> type:
    plain = getattr(diffusers, cls.__name__.replace("PAG", ""), None)
    if plain is None or getattr(diffusers, cls.__name__, None) is not cls:
        raise TypeError(f"{cls.__name__} adds perturbed rows itself. Pass a class without diffusers' PAGMixin.")
    return plain


def _check(cls: type) -> None:
    if not has_denoiser(cls):
        raise TypeError(
            f"{cls.__name__} has no denoiser to guide: its constructor takes none of {', '.join(DENOISERS)}, or it "
            "cannot be called."
        )
    taken = inspect.signature(cls.__call__).parameters.keys() & {argument.name for argument in CALL_ARGUMENTS}
    if taken:
        raise TypeError(
            f"{cls.__name__} has arguments of its own that are named {', '.join(sorted(taken))}. "
            "Guide its instances with `pag.guide`."
        )


def _make(cls: type) -> type:
    ours = getattr(diffusers, cls.__name__, None) is cls
    name = name_of(cls.__name__)
    home = "pag" if ours else cls.__module__
    summary = inspect.cleandoc(vars(cls).get("__doc__") or "").partition("\n\n")[0]
    namespace = {
        "__module__": home,
        "__qualname__": name if ours else f"{cls.__qualname__.removesuffix(cls.__name__)}{name}",
        "__doc__": _OWN.format(plain=cls.__name__, summary=summary).rstrip(),
        "_pag_example": example_of(cls, name, "pag") if ours else _ELSEWHERE.format(plain=cls.__name__, home=home),
    }
    return (type(cls) if ours else _by_base(type(cls)))(name, (PAGMixin, cls), namespace)


def _by_base(metaclass: type) -> type:
    # Of a class from elsewhere, its module does not know the sister's name: the copy is made from the class anew.
    made = type("Sister", (metaclass,), {})
    copyreg.pickle(made, lambda sister: (pag_pipeline, (sister.__bases__[1],)))
    return made
