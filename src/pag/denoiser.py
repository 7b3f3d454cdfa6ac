"""One guided call of the denoiser: grow the batch, share equal rows, perturb, combine, return what came in."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import RLock
from typing import Any, final

import torch
from torch import Tensor, nn

from pag import combine
from pag.caller import Caller
from pag.families import Family
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import (
    Call,
    Override,
    beside_predictions,
    cache_of,
    input_names,
    install,
    predictions_of,
    remove,
    uncompiled,
    with_predictions,
)
from pag.layers import Site
from pag.rows import Rows, Stage
from pag.trust import check_rows, explained


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
        role: the row group that this denoiser serves, if it serves only one.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        sites: Sequence[Site],
        guidance: Guidance,
        caller: Caller,
        role: str | None = None,
    ) -> None:
        self._model = model
        self._family = family
        self._caller = caller
        self._schedule = guidance.schedule
        self._share = guidance.share_rows
        self._role = role
        self._names = input_names(uncompiled(model))
        self._has_variance = family.variance(uncompiled(model))
        self._forward = guided_forward(uncompiled(model), family, sites, guidance.perturbation)
        # Twice: the outer one survives new offload hooks, the inner one `unet.compile()`. One of them guides.
        self._calls = [Override(model, self._guide), Override(model, self._guide, outermost=True)]
        self._inside = False
        self._alone = RLock()  # what goes on in the network's modules is for one thread at a time
        self._unchecked = family.guess
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
        with self._alone:
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
        if self._family.prepares(arguments):
            return original(*args, **kwargs)
        sample = arguments[self._family.sample]
        aside = any(arguments.get(name) not in (None, False) for name in self._family.aside)
        rows = self._caller.rows(sample, "aside" if aside else self._role)
        scale = self._scale(arguments.get(self._family.timestep, 0))
        if scale == 0:
            return original(*args, **kwargs)
        if not rows.guidable:
            return self._completed(original(*args, **kwargs))
        self._refuse_caches()
        if self._family.packed:
            return self._guided_by_two_calls(rows, scale, arguments, partial(original, *args, **kwargs))
        grown = {name: self._grow(rows, name, value) for name, value in arguments.items()}
        grown |= self._family.grow(arguments, rows.span("cond"))
        positional = [grown[name] for name in self._names[: len(args)]]
        name = type(uncompiled(self._model)).__name__
        doubt = explained(name) if self._unchecked else nullcontext()
        stage = self._first_stage(rows, arguments)
        with doubt, self._stored(rows, arguments), self._forward.running(rows, stage, grown):
            output = original(*positional, **{name: grown[name] for name in kwargs})
        if self._unchecked:
            check_rows(name, original(*args, **kwargs), output, rows.normal, self._family.predictions)
            self._unchecked = False
        if self._family.stores:
            for store in beside_predictions(output, self._family.predictions):
                rows.trim_store(store)
        return with_predictions(output, self._combine(rows, sample, self._predictions(output), scale))

    def _refuse_caches(self) -> None:
        model = uncompiled(self._model)
        if cache := cache_of(model):
            raise RuntimeError(
                f"{type(model).__name__} has a cache ({cache}) that computes layers in some steps only, and for the "
                "pipeline's own rows. Guidance needs them all: call `disable_cache()` on it first."
            )

    def _guided_by_two_calls(self, rows: Rows, scale: float, arguments: dict[str, Any], call: Call) -> Any:
        output = call()
        with self._forward.running(Rows(rows.size, ()), Stage.PARTED, arguments):
            worse = call()
        pairs = zip(self._predictions(output), self._predictions(worse), strict=True)
        both = [torch.cat(pair) for pair in pairs]
        return with_predictions(output, self._combine(rows, arguments[self._family.sample], both, scale))

    @contextmanager
    def _stored(self, rows: Rows, arguments: dict[str, Any]) -> Generator[None]:
        """While keys and values of earlier calls hold the perturbed rows as well."""
        stores = self._stores(arguments)
        try:
            for store in stores:
                rows.grow_store(store)
            yield
        finally:
            for store in stores:
                rows.trim_store(store)

    def _stores(self, arguments: dict[str, Any]) -> list[Any]:
        return [store for name in self._family.stores if (store := arguments.get(name)) is not None]

    def _scale(self, timestep: Tensor | float | int) -> float:
        # A constant scale must not wait for the device to tell the timestep.
        if not self._schedule.varies:
            return self._schedule.scale
        return self._schedule.at(self._caller.progress(timestep))

    def _grow(self, rows: Rows, name: str, value: Any) -> Any:
        if name in self._family.row_lists and value is not None:
            return rows.grow_list(name, value)
        if name in self._family.layered_arguments and isinstance(value, Tensor):
            value = list(value.unbind())
        if name in self._family.row_arguments:
            return rows.grow(name, value, folded=name in self._family.folded_arguments)
        if name in self._family.paired_arguments:
            return rows.grow_pairs(value)
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

    def _predictions(self, output: Any) -> list[Tensor]:
        return predictions_of(output, self._family.predictions)

    def _completed(self, output: Any) -> Any:
        """The output of a call without the prompt's rows: what is owed to them is added."""
        owed = self._caller.owed()
        if owed is None:
            return output
        # A call without text may have the tokens of the image alone, which are the last ones then.
        return with_predictions(
            output,
            [
                (one.to(delta.dtype) + delta[:, -one.shape[1] :]).to(one.dtype)
                for one, delta in zip(self._predictions(output), owed, strict=True)
            ],
        )

    def _combine(self, rows: Rows, sample: Any, predictions: list[Tensor], scale: float) -> list[Tensor]:
        # Differences of close predictions cancel, so half precision is left for the result only.
        exact = [one.to(torch.promote_types(one.dtype, torch.float32)) for one in predictions]
        deltas = [self._delta(rows, one, scale) for one in exact]
        g = self._caller.guidance_scale
        if sorted(rows.given) == ["cond", "uncond"] and g is not None:
            results = [self._finished(rows, one, delta, g) for one, delta in zip(exact, deltas, strict=True)]
        else:
            added = self._added(rows, deltas)
            results = [one[: rows.normal] + delta for one, delta in zip(exact, added, strict=True)]
        return [result.to(one.dtype) for result, one in zip(results, predictions, strict=True)]

    def _added(self, rows: Rows, deltas: list[Tensor]) -> list[Tensor]:
        own = self._caller.shares(deltas)
        others = own if rows.given == ("cond",) else self._caller.owed() or own
        return [
            torch.cat([delta if group == "cond" else other for group in rows.given])
            for delta, other in zip(own, others, strict=True)
        ]

    def _delta(self, rows: Rows, prediction: Tensor, scale: float) -> Tensor:
        delta = combine.delta(prediction[rows.span("cond")], prediction[rows.span("perturbed")], scale)
        if self._has_variance:
            delta[:, delta.shape[1] // 2 :] = 0
        return delta

    def _finished(self, rows: Rows, prediction: Tensor, delta: Tensor, g: float) -> Tensor:
        mean = prediction.shape[1] // 2 if self._has_variance else prediction.shape[1]
        c = prediction[rows.span("cond")][:, :mean]
        result = combine.classifier_free(prediction[rows.span("uncond")][:, :mean], c, g) + delta[:, :mean]
        if self._caller.guidance_rescale > 0:
            result = combine.rescale(result, c, self._caller.guidance_rescale)
        return torch.cat([rows.repeat(result), prediction[: rows.normal][:, mean:]], dim=1)
