"""Checks the shapes in `pag`'s signatures while the tests run, and only those.

jaxtyping's import hook decorates every function. Here a function without a shape in its signature stays as it is:
plain types are pyright's business, and the library's own errors for wrong input are what the tests want to see.
torch.compile traces the bare function.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
import torch
from beartype import beartype

_check: Callable[..., Any] = jaxtyping.jaxtyped


def has_shape(annotation: object) -> bool:
    """Whether a jaxtyping array type occurs in an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(has_shape(argument) for argument in typing.get_args(annotation))


def copy_function(function: FunctionType) -> FunctionType:
    """An equal function of its own, so that its annotations can change."""
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def check_shapes(**_: object) -> Callable[[Any], Any]:
    """Takes the place of `jaxtyping.jaxtyped`, which the import hook calls without the function."""
    return with_checked_shapes


def with_checked_shapes(function: Any) -> Any:
    """The function with the shapes in its signature checked, or as it was if there are none."""
    if not inspect.isfunction(function):
        return function
    shapes = {name: a for name, a in inspect.get_annotations(function).items() if has_shape(a)}
    if not shapes:
        return function
    bare = copy_function(function)
    bare.__annotations__ = shapes
    checked = _check(bare, typechecker=beartype)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return (function if torch.compiler.is_compiling() else checked)(*args, **kwargs)

    return wrapper


def install(package: str) -> None:
    """Check the shapes of every module of a package that is imported from now on."""
    jaxtyping.jaxtyped = check_shapes
    jaxtyping.install_import_hook(package, "beartype.beartype")
