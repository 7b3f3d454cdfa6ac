"""Checks the shapes in the signatures of a package while the tests run, and only those.

jaxtyping's own import hook decorates every function, the nested ones too, which torch.compile cannot trace. Here a
function without a shape in its signature stays as it is: plain types are pyright's business, and the library's own
errors for wrong input are what the tests want to see. Under torch.compile nothing is checked.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any

import torch
from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def install(package: str) -> None:
    """Check the shapes of every module of a package that is imported from now on."""
    sys.meta_path.insert(0, _Finder(package))


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _check_all(module, module.__name__)


def _check_all(holder: ModuleType | type, module: str) -> None:
    """Put checks around the functions that a module, or a class of it, defines."""
    for name, value in list(vars(holder).items()):
        if getattr(value, "__module__", None) != module:
            continue
        if inspect.isclass(value):
            _check_all(value, module)
        elif inspect.isfunction(value) and (shapes := _shapes(value)):
            setattr(holder, name, _checked(value, shapes))


def _shapes(function: FunctionType) -> dict[str, Any]:
    """The annotations of a function that hold shapes."""
    return {name: given for name, given in inspect.get_annotations(function).items() if _has_shape(given)}


def _has_shape(annotation: object) -> bool:
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(_has_shape(argument) for argument in typing.get_args(annotation))


def _checked(function: FunctionType, shapes: dict[str, Any]) -> Callable[..., Any]:
    """The function with its shapes checked at each call."""
    shaped = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    shaped.__kwdefaults__ = function.__kwdefaults__
    shaped.__annotations__ = shapes
    checked = jaxtyped(shaped, typechecker=beartype)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return (function if torch.compiler.is_compiling() else checked)(*args, **kwargs)

    return wrapper
