"""A ControlNet's rows of the prompt and of the negative prompt are one until the text enters. It is not guided.

Rows that the denoiser leaves out are left out ahead of it too.
"""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from pag.families import Family, controlnet_family, controlnets_of
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import Call, Takeover, input_names, uncompiled
from pag.protocol import CallerAhead
from pag.rows import Rows, Stage, mapped, shapes_of_rows

# Two pipelines that are guided may have one ControlNet. Stepping in once serves both.
_taken: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def known_controlnets(pipe: Any) -> list[tuple[nn.Module, Family]]:
    """The ControlNets of a pipeline of which something is known, and that."""
    nets = controlnets_of(pipe)
    return [(net, family) for net in nets if (family := controlnet_family(uncompiled(net))) is not None]


@final
class SharedControlNet:
    """Computes equal rows of a ControlNet once, in the steps that are guided, and none that the denoiser will not read.

    Nothing is changed until :meth:`attach`.

    Args:
        model: the ControlNet, compiled or not.
        family: what is known of its class.
        guidance: when.
        caller: the pipeline around it, as seen from here.
    """

    def __init__(self, model: nn.Module, family: Family, guidance: Guidance, caller: CallerAhead) -> None:
        self._model = uncompiled(model)
        self._family = family
        self._caller = caller
        self._schedule = guidance.schedule
        self._share = guidance.share_rows
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
        if arguments.get("guess_mode"):  # it gets the prompt's rows alone
            return original(*args, **kwargs)
        rows = self._caller.rows(arguments[self._family.sample], None)
        if len(rows.given) == 1:
            return original(*args, **kwargs)
        if self._caller.leaves_out(rows, shapes_of_rows(arguments[self._family.sample])):
            return self._prompt_alone(rows, original, args, kwargs)
        if not self._shares(rows, arguments):
            return original(*args, **kwargs)
        with self._forward.running(Rows(rows.size, rows.given, perturbed=False), Stage.START, arguments):
            return original(*args, **kwargs)

    def _prompt_alone(self, rows: Rows, original: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The output for the prompt's rows, in the place of all."""

        def taken(name: str, value: Any) -> Any:
            if name not in self._family.row_arguments:
                return value
            return rows.grow(name, value, ("cond",), folded=name in self._family.folded_arguments)

        positional = [taken(name, value) for name, value in zip(self._names, args, strict=False)]
        output = original(*positional, **{name: taken(name, value) for name, value in kwargs.items()})
        return mapped(rows.repeat, output)

    def _shares(self, rows: Rows, arguments: Mapping[str, Any]) -> bool:
        """Whether the groups of rows are equal but for the text, and the step is guided."""
        scale = self._schedule.now(lambda: self._caller.progress(arguments[self._family.timestep]))
        if scale == 0 or not self._share or not self._family.trunk:
            return False
        inputs = [arguments.get(name) for name in self._family.trunk_arguments]
        return self._caller.starts_equal(Rows(rows.size, rows.given, perturbed=False), inputs)
