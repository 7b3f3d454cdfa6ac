"""A ControlNet's rows of the prompt and of the negative prompt are one until the text enters. It is not guided."""

import weakref
from typing import Any, final

import torch
from torch import nn

from pag.families import Family, controlnet_family, controlnets_of
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import Call, Takeover, input_names, uncompiled
from pag.protocol import Caller
from pag.rows import Rows, Stage

# Two pipelines that are guided may have one ControlNet. Stepping in once serves both.
_taken: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def sharing_controlnets(pipe: Any) -> list[tuple[nn.Module, Family]]:
    """The ControlNets of a pipeline that can share rows, with what is known of each."""
    nets = controlnets_of(pipe)
    return [(net, family) for net in nets if (family := controlnet_family(uncompiled(net))) is not None]


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
        self._calls = Takeover(model, self._shared)
        self._attached = False

    def attach(self) -> None:
        """Step into the calls of the ControlNet, unless that was done already."""
        if self._model in _taken:
            return
        self._calls.install()
        _taken.add(self._model)
        self._attached = True

    def detach(self) -> None:
        """Give them back."""
        if not self._attached:
            return
        self._attached = False
        _taken.discard(self._model)
        self._calls.remove()

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
        given = self._caller.rows(arguments[self._family.sample], None)
        scale = self._schedule.now(lambda: self._caller.progress(arguments[self._family.timestep]))
        if len(given.given) == 1 or scale == 0:
            return None
        rows = Rows(given.size, given.given, perturbed=False)
        inputs = [arguments.get(name) for name in self._family.trunk_arguments]
        return rows if self._caller.starts_equal(rows, inputs) else None
