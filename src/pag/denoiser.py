"""One guided call of the denoiser: grow the batch, share equal rows, perturb, combine, return what came in."""

from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from pag import combine
from pag.degraded import base_of, check_input, degraded
from pag.families import Family
from pag.forward import guided_forward
from pag.guidance import Guidance
from pag.intercept import Call, Takeover, cache_of, input_names, uncompiled
from pag.layers import Site
from pag.lent import Growing, Lent
from pag.outputs import beside_predictions, predictions_of, with_predictions
from pag.perturbations import INPUT_PERTURBATIONS, InputPerturbation
from pag.protocol import Caller
from pag.record import UnlikeError
from pag.reuse import Deltas
from pag.rows import Rows, Stage, shapes_of_rows
from pag.trust import check_rows, explained


@dataclass(frozen=True, eq=False)  # an instance without fields has no hash, which torch.compile asks it for
class _Forward:
    """A call of the network: as it came, or with other values for some of its arguments."""

    original: Call
    positional: Sequence[str]
    keywords: Sequence[str]
    arguments: dict[str, Any]

    def __call__(self, changed: Mapping[str, Any] | None = None) -> Any:
        given = {**self.arguments, **(changed or {})}
        return self.original(
            *[given[name] for name in self.positional], **{name: given[name] for name in self.keywords}
        )


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
        self._of_input = INPUT_PERTURBATIONS.get(guidance.perturbation)
        if self._of_input is not None:
            check_input(uncompiled(model), family, sites, guidance.perturbation)
        self._low_memory = guidance.low_memory
        recorded = guidance.low_memory and not family.packed and self._of_input is None
        self._forward = guided_forward(uncompiled(model), family, sites, guidance.perturbation, recorded)
        self._calls = Takeover(model, self._guided)
        self._unchecked = family.guess
        self._owner: object = None

    def attach(self, owner: object = None) -> None:
        """Step into the calls of the model.

        Args:
            owner: an object that lives as long as the model is guided.
        """
        self._calls.install()
        self._owner = owner

    def detach(self) -> None:
        """Give its calls back."""
        self._calls.remove()
        self._owner = None

    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _guided(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        if self._family.prepares(arguments):
            return original(*args, **kwargs)
        call = _Forward(original, self._names[: len(args)], tuple(kwargs), arguments)
        sample = arguments[self._family.sample]
        aside = any(arguments.get(name) not in (None, False) for name in self._family.aside)
        rows = self._caller.rows(sample, "aside" if aside else self._role)
        scale = self._schedule.now(lambda: self._caller.progress(arguments.get(self._family.timestep, 0)))
        deltas = self._caller.deltas(self._kind(rows, arguments) if rows.guidable else None)
        if scale == 0 and deltas is None:
            return original(*args, **kwargs)
        if not rows.guidable:
            return self._without_prompt(rows, call, deltas)
        self._refuse_caches()
        wanted = rows.groups if scale else rows.given
        left_out = () if deltas is None else deltas.left_out([group for group in wanted if group != "cond"])
        if self._of_input is not None and "perturbed" in wanted and "perturbed" not in left_out:
            left_out = ()  # it starts from the negative prompt's prediction
        groups = tuple(group for group in wanted if group not in left_out)
        output, predictions = self._predict(rows, groups, call)
        exact = [_exact(one) for one in predictions]
        if deltas is not None:
            exact = _completed(rows, groups, exact, left_out, deltas)
            deltas.keep([one[rows.span("cond")] for one in exact], output)
        results = self._combine(rows, exact, scale)
        own = self._predictions(output)
        return with_predictions(output, [result.to(one.dtype) for result, one in zip(results, own, strict=True)])

    def _kind(self, rows: Rows, arguments: Mapping[str, Any]) -> Hashable:
        """What must stay the same for the deltas of earlier steps to be good for a call."""
        modes = [(name, value) for name, value in arguments.items() if isinstance(value, str | bool | None)]
        return id(self), shapes_of_rows(arguments[self._family.sample])[: rows.size], tuple(modes)

    def _predict(self, rows: Rows, groups: tuple[str, ...], call: _Forward) -> tuple[Any, list[Tensor]]:
        """What the network returns for some groups of rows, and its predictions with theirs, in that order."""
        perturbed = groups[-1] == "perturbed"
        run = Rows(rows.size, groups[:-1] if perturbed else groups)
        if run.given != rows.given and self._stores(call.arguments):
            raise self._needs_all()
        if groups == rows.given:
            output = call()
            return output, self._predictions(output)
        if perturbed and self._of_input is not None:
            return self._predict_from_worse_input(rows, self._of_input, call)
        if perturbed and (self._low_memory or self._family.packed):
            return self._predict_by_two_calls(rows, run.given, call)
        if not perturbed:
            output = call(self._grown(rows, call, groups))
            return output, self._predictions(output)
        name = type(uncompiled(self._model)).__name__
        doubt = explained(name) if self._unchecked else nullcontext()
        stage, lent = self._first_stage(rows, call.arguments), Lent(run)
        grown = self._grown(rows, call, groups, lent)
        with doubt, self._stored(run, call.arguments), self._forward.running(run, stage, grown, lent):
            output = call(grown)
        if self._unchecked:
            output = self._copied(output)
            same = call() if run.given == rows.given else call(self._grown(rows, call, run.given))
            check_rows(name, same, output, run.normal, self._family.predictions)
            self._unchecked = False
        if self._family.stores:
            for store in beside_predictions(output, self._family.predictions):
                run.trim_store(store)
        return output, self._predictions(output)

    def _predict_from_worse_input(
        self, rows: Rows, method: InputPerturbation, call: _Forward
    ) -> tuple[Any, list[Tensor]]:
        """The same, where a group ``b`` is predicted once more with a worse image: ``ĉ`` is ``c − (b − b̂)``.

        So guidance adds ``s·(b − b̂)``, and all else is as ever.
        """
        arguments, base = call.arguments, base_of(rows)
        level = self._caller.level(arguments.get(self._family.timestep, 0))
        # Made now, for the network may empty lists that it is given.
        again = self._grown(rows, call, (base,))
        run = Rows(rows.size, rows.given, perturbed=False)
        with self._forward.looking(run, self._first_stage(rows, arguments), arguments):
            output = self._copied(call())
        seen = self._forward.take_seen().clone()
        (exact,) = [_exact(one) for one in self._predictions(output)]
        plain = exact[run.span(base)]
        mean = plain[:, : plain.shape[1] // 2] if self._has_variance else plain
        again[self._family.sample] = degraded(method, level, again[self._family.sample], mean, seen)
        (worse,) = [_exact(one) for one in self._predictions(call(again))]
        return output, [torch.cat([exact, exact[run.span("cond")] - (plain - worse)])]

    def _predict_by_two_calls(self, rows: Rows, groups: tuple[str, ...], call: _Forward) -> tuple[Any, list[Tensor]]:
        """The same with the perturbed rows, after the others have run and left what both have in common."""
        if self._stores(call.arguments):
            raise RuntimeError(
                f"{type(uncompiled(self._model)).__name__} keeps keys and values of all rows for later calls, so that "
                "the perturbed ones cannot be run by themselves. Guide it without `low_memory`."
            )
        run, packed = Rows(rows.size, groups, perturbed=False), self._family.packed
        arguments = call.arguments
        others = arguments if packed or groups == rows.given else self._grown(rows, call, groups)
        # Made now, for the network may empty lists that it is given.
        own = arguments if packed else self._grown(rows, call, ("perturbed",))
        stage = Stage.PARTED if packed else self._first_stage(rows, arguments)
        with self._forward.recording(run, stage, others):
            output = self._copied(call(others))
        predictions = self._predictions(output)
        if self._unchecked:
            alike = [one[run.span("cond")] for one in predictions]
            check_rows(type(uncompiled(self._model)).__name__, call(own), alike, rows.size, self._family.predictions)
            self._unchecked = False
        try:
            worse = self._predict_perturbed(rows.size, call, own)
        except UnlikeError:  # the record was used up
            worse = self._predict_perturbed(rows.size, call, own)
        return output, [torch.cat(pair) for pair in zip(predictions, worse, strict=True)]

    def _predict_perturbed(self, size: int, call: _Forward, arguments: dict[str, Any]) -> list[Tensor]:
        with self._forward.running(Rows(size, ()), Stage.PARTED, arguments):
            return self._predictions(call(arguments))

    def _grown(self, rows: Rows, call: _Forward, groups: Sequence[str], lent: Lent | None = None) -> dict[str, Any]:
        grown: dict[str, Any] = {}
        for name, value in call.arguments.items():
            if lent is not None and self._forward.lends(name) and rows.on_each(value):
                grown[name] = lent.stand_in(rows.grow(name, value, groups[:-1]))
            else:
                grown[name] = self._grow(rows, name, value, groups)
        return {**grown, **self._family.grow(call.arguments, rows.sources(groups))}

    def _copied(self, output: Any) -> Any:
        """An output that outlives the next call: a network in a CUDA graph writes to the same place each time."""
        return with_predictions(output, [one.clone() for one in self._predictions(output)])

    def _without_prompt(self, rows: Rows, call: _Forward, deltas: Deltas | None) -> Any:
        """The output of a call without the prompt's rows: computed or reconstructed, and what is owed to it added."""
        (group,) = rows.given
        if deltas is None or not deltas.c:
            return self._added_owed(call())
        group = deltas.another(group)
        left_out = deltas.left_out([group])
        if left_out and self._stores(call.arguments):
            raise self._needs_all()
        output = deltas.output if left_out else call()
        plain = self._predictions(output)
        u = deltas.completed(deltas.c, {} if left_out else {group: plain}, left_out)[group]
        u = [one.to(like.dtype) for one, like in zip(u, plain, strict=True)]
        return self._added_owed(with_predictions(output, u))

    def _refuse_caches(self) -> None:
        model = uncompiled(self._model)
        if cache := cache_of(model):
            raise RuntimeError(
                f"{type(model).__name__} has a cache ({cache}) that computes layers in some steps only, and for the "
                "pipeline's own rows. Guidance needs them all: call `disable_cache()` on it first."
            )

    def _needs_all(self) -> RuntimeError:
        return RuntimeError(
            f"{type(uncompiled(self._model)).__name__} keeps keys and values of all rows for later calls, so that none "
            "can be left out. Do not reuse the delta of classifier-free guidance: `reuse=pag.Reuse(pag=…)`."
        )

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

    def _grow(self, rows: Rows, name: str, value: Any, groups: Sequence[str]) -> Any:
        if name in self._family.row_lists and value is not None:
            return rows.grow_list(name, value, groups)
        if name in self._family.layered_arguments and isinstance(value, Tensor):
            value = list(value.unbind())
        if name in self._family.taken_singly and isinstance(value, list | tuple):
            return Growing(value, partial(rows.grow, name, groups=groups))  # pyright: ignore
        if name in self._family.row_arguments:
            return rows.grow(name, value, groups, folded=name in self._family.folded_arguments)
        if name in self._family.paired_arguments:
            return rows.grow_pairs(value, groups)
        if isinstance(value, dict):
            return {key: self._grow(rows, f"{name}.{key}", item, groups) for key, item in value.items()}  # pyright: ignore
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

    def _added_owed(self, output: Any) -> Any:
        owed = self._caller.owed()
        if owed is None:
            return output
        return with_predictions(
            output,
            [
                (one.to(delta.dtype) + combine.last_tokens(delta, one)).to(one.dtype)
                for one, delta in zip(self._predictions(output), owed, strict=True)
            ],
        )

    def _combine(self, rows: Rows, exact: list[Tensor], scale: float) -> list[Tensor]:
        deltas = [self._delta(rows, one, scale) for one in exact]
        g = self._caller.guidance_scale
        if sorted(rows.given) == ["cond", "uncond"] and g is not None:
            return [self._finished(rows, one, delta, g) for one, delta in zip(exact, deltas, strict=True)]
        added = self._added(rows, deltas)
        return [one[: rows.normal] + delta for one, delta in zip(exact, added, strict=True)]

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


def _exact(prediction: Tensor) -> Tensor:
    """Differences of close predictions cancel, so half precision is left for the result only."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def _completed(
    rows: Rows, groups: Sequence[str], predictions: list[Tensor], left_out: Sequence[str], deltas: Deltas
) -> list[Tensor]:
    """The predictions of all groups of rows, from those of the groups that were run."""
    ran = Rows(rows.size, tuple(groups), perturbed=False)
    computed = {group: [one[ran.span(group)] for one in predictions] for group in groups}
    c = computed.pop("cond")
    every = {"cond": c, **deltas.completed(c, computed, left_out)}
    return [torch.cat([every.get(group, c)[index] for group in rows.groups]) for index in range(len(predictions))]
