"""A ControlNet's rows of the prompt and of the negative prompt are one until the text enters. It is not guided."""

import weakref
from threading import RLock
from typing import Any, final

import torch
from torch import nn

from pag.caller import Caller
from pag.families import Family
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import Call, Override, input_names, install, remove, uncompiled
from pag.rows import Rows, Stage

# Two pipelines that are guided may have one ControlNet. Stepping in once serves both.
_taken: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


@final
class SharedControlNet:
    """Computes equal rows of a ControlNet once, in the steps that are guided. Nothing is changed until :meth:`attach`.

    Args:
        model: the ControlNet, compiled or not.
        family: what is known of its class.
        guidance: when.
        caller: the pipeline around it, as seen from here.
    """

    def __init__(self, model: nn.Module, family: Family, guidance: Guidance, caller: Caller) -> None:
        self._model = uncompiled(model)
        self._family = family
        self._caller = caller
        self._schedule = guidance.schedule
        self._names = input_names(self._model)
        self._forward = guided_forward(self._model, family, (), guidance.perturbation)
        self._calls = [Override(model, self._call), Override(model, self._call, outermost=True)]
        self._inside = False
        self._alone = RLock()
        self._attached = False

    def attach(self) -> None:
        """Step into the calls of the ControlNet and of its modules, unless that was done already."""
        if self._model in _taken:
            return
        install(self._calls)
        _taken.add(self._model)
        self._attached = True

    def detach(self) -> None:
        """Give all calls back, the last one first."""
        if not self._attached:
            return
        self._attached = False
        _taken.discard(self._model)
        remove(self._calls)

    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _call(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        with self._alone:
            if self._inside:
                return original(*args, **kwargs)
            self._inside = True
            try:
                return self._shared(original, *args, **kwargs)
            finally:
                self._inside = False

    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _shared(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        rows = self._equal_rows(arguments)
        if rows is None:
            return original(*args, **kwargs)
        with self._forward.running(rows, Stage.START, arguments):
            return original(*args, **kwargs)

    def _equal_rows(self, arguments: dict[str, Any]) -> Rows | None:
        """The rows of the call, if its groups are equal but for the text, and the step is guided."""
        if arguments.get("guess_mode"):  # it gets the prompt's rows alone
            return None
        given = self._caller.rows(arguments[self._family.sample], None, denoises=False)
        if len(given.given) == 1 or not self._guided(arguments[self._family.timestep]):
            return None
        rows = Rows(given.size, given.given, perturbed=False)
        inputs = [arguments.get(name) for name in self._family.trunk_arguments]
        return rows if self._caller.starts_equal(rows, inputs) else None

    def _guided(self, timestep: Any) -> bool:
        if not self._schedule.varies:
            return self._schedule.scale > 0
        return self._schedule.at(self._caller.progress(timestep)) > 0
