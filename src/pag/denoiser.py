"""One guided call of the denoiser: grow the batch, share equal rows, perturb, combine, return what came in."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from pag import combine
from pag.caller import Caller
from pag.families import Family
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import Call, Override, install, parameter_names, remove, sample_of, uncompiled, with_sample
from pag.layers import Site
from pag.rows import Rows, Stage


@final
class GuidedDenoiser:
    """Guidance inside the call of a denoiser. Nothing is changed until :meth:`attach`.

    The caller gets back as many rows as it passed. If it is known to compute ``u + g·(c − u)``, every row is the
    finished result, which that formula leaves as it is. Otherwise every row has ``s·(c − ĉ)`` added, which any
    combination with weights that sum to 1 carries to its result.

    Args:
        model: the denoiser, compiled or not.
        family: what is known of its class.
        sites: the self-attention layers to perturb.
        guidance: how strongly, when, and with what.
        caller: the pipeline around it.
    """

    def __init__(
        self, model: nn.Module, family: Family, sites: Sequence[Site], guidance: Guidance, caller: Caller
    ) -> None:
        self._model = model
        self._family = family
        self._caller = caller
        self._schedule = guidance.schedule
        self._share = guidance.share_rows
        self._names = parameter_names(model)
        self._forward = guided_forward(uncompiled(model), family, sites, guidance.perturbation)
        # Twice: the outer one survives new offload hooks, the inner one `unet.compile()`. One of them guides.
        self._calls = [Override(model, self._guide), Override(model, self._guide, outermost=True)]
        self._inside = False
        self._owner: object = None

    def attach(self, owner: object = None) -> None:
        """Step into the calls of the model and of its modules.

        Args:
            owner: an object that lives as long as the model is guided.
        """
        self._forward.attach()
        try:
            install(self._calls)
        except BaseException:
            self._forward.detach()
            raise
        self._owner = owner

    def detach(self) -> None:
        """Give all calls back, the last one first."""
        remove(self._calls)
        self._forward.detach()
        self._owner = None

    # Where the whole call is traced, as after `torch.compile(pipe.unet)` under attached guidance, the decisions of
    # this function stay in Python and the network is compiled.
    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _guide(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return original(*args, **kwargs)
        self._inside = True
        try:
            return self._guided(original, *args, **kwargs)
        finally:
            self._inside = False

    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _guided(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        scale = self._scale(arguments["timestep"])
        if scale == 0:
            return original(*args, **kwargs)
        rows = self._caller.rows(arguments["sample"])
        grown = {name: self._grow(rows, name, value) for name, value in arguments.items()}
        positional = [grown.pop(name) for name in self._names[: len(args)]]
        with self._forward.running(rows, self._first_stage(rows, arguments)):
            output = original(*positional, **grown)
        return with_sample(output, self._combine(rows, sample_of(output), scale))

    def _scale(self, timestep: Tensor | float | int) -> float:
        # A constant scale must not wait for the device to tell the timestep.
        if not self._schedule.varies:
            return self._schedule.scale
        return self._schedule.at(self._caller.progress(timestep))

    def _grow(self, rows: Rows, name: str, value: Any) -> Any:
        if name in self._family.row_arguments:
            return rows.grow(name, value)
        if isinstance(value, dict):
            return {key: self._grow(rows, f"{name}.{key}", item) for key, item in value.items()}  # pyright: ignore
        return value

    def _first_stage(self, rows: Rows, arguments: dict[str, Any]) -> Stage:
        if not self._share:
            return Stage.PARTED
        if self._forward.text_entry is None:
            return Stage.TEXT
        inputs = [arguments.get(name) for name in self._family.trunk_arguments]
        return Stage.START if self._caller.starts_equal(rows, inputs) else Stage.TEXT

    def _combine(self, rows: Rows, prediction: Tensor, scale: float) -> Tensor:
        # Differences of close predictions cancel, so half precision is left for the result only.
        exact = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        c = exact[rows.span("cond")]
        delta = combine.delta(c, exact[rows.span("perturbed")], scale)
        g = self._caller.guidance_scale
        if rows.given == ("uncond", "cond") and g is not None:
            result = combine.classifier_free(exact[rows.span("uncond")], c, g) + delta
            if self._caller.guidance_rescale > 0:
                result = combine.rescale(result, c, self._caller.guidance_rescale)
            return rows.repeat(result).to(prediction.dtype)
        return (exact[: rows.normal] + rows.repeat(delta)).to(prediction.dtype)
