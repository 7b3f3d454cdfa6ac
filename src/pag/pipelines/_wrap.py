"""The constructor and the call of a pipeline class, with the PAG arguments on top."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pag.pipelines._arguments import CALL_ARGUMENTS
from pag.pipelines._check import check_names, check_prompts
from pag.pipelines._upstream import Defaults


def with_layers(init: Callable[..., None], defaults: Defaults) -> Callable[..., None]:
    """A constructor that takes the layers to perturb, too."""

    @functools.wraps(init)
    def constructor(
        self: Any, *args: Any, pag_applied_layers: str | list[str] | None = defaults.layers, **kwargs: Any
    ) -> None:
        init(self, *args, **_filled(init, defaults, self, *args, **kwargs))
        self.set_pag_applied_layers(pag_applied_layers)

    return constructor


def with_guidance(call: Callable[..., Any], defaults: Defaults) -> Callable[..., Any]:
    """A call that takes the PAG settings, too, and is guided by them."""
    names = [argument.name for argument in (*CALL_ARGUMENTS, *defaults.more)]

    @functools.wraps(call)
    def guided(self: Any, *args: Any, **kwargs: Any) -> Any:
        settings: dict[str, Any] = {argument.name: argument.default for argument in defaults.more}
        settings |= {name: kwargs.pop(name) for name in names if name in kwargs}
        check_names(call, names, kwargs)
        check_prompts(self, call, args, kwargs)
        with self._pag_call(**settings):
            return call(self, *args, **_filled(call, defaults, self, *args, **kwargs))

    return guided


def _filled(function: Callable[..., Any], defaults: Defaults, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The keywords, with the defaults that are not the function's own."""
    if not defaults.values:
        return kwargs
    signature = inspect.signature(function)
    given = signature.bind_partial(*args, **kwargs).arguments
    values = {name: value for name, value in defaults.values.items() if name in signature.parameters}
    return {name: value for name, value in values.items() if name not in given} | kwargs
