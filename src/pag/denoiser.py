"""One guided call of the denoiser: grow the batch, share equal rows, perturb, combine, return what came in."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pag import combine
from pag.caller import Caller
from pag.families import Family
from pag.guidance import Guidance
from pag.intercept import (
    AttentionOp,
    Call,
    Override,
    native_call,
    parameter_names,
    processor_name,
    sample_of,
    uncompiled,
    with_sample,
)
from pag.layers import Site
from pag.perturbations import PERTURBATIONS, Tokens
from pag.rows import Rows, Stage


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
        self._sites = tuple(sites)
        self._caller = caller
        self._schedule = guidance.schedule
        self._share = guidance.share_rows
        self._perturbation = PERTURBATIONS[guidance.perturbation]
        self._names = parameter_names(model)
        self._text_entry = family.text_entry(uncompiled(model))
        self._overrides: list[Override] = []
        self._owner: object = None
        # State of the forward that is under way. Without rows no guided call is, and every override steps aside.
        self._inside = False
        self._rows: Rows | None = None
        self._stage = Stage.PARTED
        self._perturbed: list[str] = []

    def attach(self, owner: object = None) -> None:
        """Step into the calls of the model, of the sites, and of the modules that can share rows.

        Args:
            owner: an object that lives as long as the model is guided.
        """
        self._owner = owner
        inner = uncompiled(self._model)
        try:
            if self._text_entry is not None:
                self._take_over(inner.get_submodule(self._text_entry), self._enter_text)
            for site in self._sites:
                module = inner.get_submodule(site.path)
                self._take_over(module, partial(self._perturb, module, site.path))
            for module in sharing_modules(inner, self._family, self._sites, self._text_entry):
                self._take_over(module, self._share_rows)
            # Twice: the outer one survives new offload hooks, the inner one `unet.compile()`. One of them guides.
            self._take_over(self._model, self._guide)
            self._take_over(self._model, self._guide, outermost=True)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Give all calls back, the last one first."""
        while self._overrides:
            self._overrides.pop().remove()
        self._owner = None

    def _take_over(self, module: nn.Module, function: Call, *, outermost: bool = False) -> None:
        self._overrides.append(Override(module, function, outermost=outermost))

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
        with self._forward(rows, arguments):
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

    @contextmanager
    def _forward(self, rows: Rows, arguments: dict[str, Any]) -> Generator[None]:
        self._stage = self._first_stage(rows, arguments)
        self._perturbed = []
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None
        if missing := [site for site in self._sites if site.path not in self._perturbed]:
            inner = uncompiled(self._model)
            raise RuntimeError(
                "Guidance did not reach "
                + ", ".join(f"{site} ({processor_name(inner.get_submodule(site.path))})" for site in missing)
                + ": the layer did not run, or its attention processor makes no call of scaled_dot_product_attention. "
                "Name other layers, or set diffusers' AttnProcessor2_0 there."
            )

    def _first_stage(self, rows: Rows, arguments: dict[str, Any]) -> Stage:
        if not self._share:
            return Stage.PARTED
        if self._text_entry is None:
            return Stage.TEXT
        inputs = [arguments.get(name) for name in self._family.trunk_arguments]
        return Stage.START if self._caller.starts_equal(rows, inputs) else Stage.TEXT

    def _enter_text(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        if self._stage == Stage.START:
            self._stage = Stage.TEXT
        return self._share_rows(original, *args, **kwargs)

    def _share_rows(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        rows, stage = self._rows, self._stage
        if rows is None or stage == Stage.PARTED or not rows.carried_by((args, kwargs)):
            return original(*args, **kwargs)
        return rows.spread(original(*rows.take(args, stage), **rows.take(kwargs, stage)), stage)

    def _perturb(self, module: nn.Module, path: str, original: Call, *args: Any, **kwargs: Any) -> Any:
        rows = self._rows
        if rows is None:
            return original(*args, **kwargs)
        self._stage = Stage.PARTED
        with AttentionOp(partial(self._attend, rows, path)):
            return native_call(module, original)(*args, **kwargs)

    def _attend(
        self,
        rows: Rows,
        path: str,
        op: Call,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *args: Any,
        **options: Any,
    ) -> Tensor:
        self._perturbed.append(path)
        q, k, v = ((tensor[: rows.normal], tensor[rows.normal :]) for tensor in (query, key, value))
        normal_mask, perturbed_mask = rows.split(attn_mask)
        normal = op(q[0], k[0], v[0], normal_mask, *args, **options)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return op(q, k, v, perturbed_mask, *args, **options)

        tokens = Tokens(image=slice(0, query.shape[-2]))
        return torch.cat([normal, self._perturbation(q[1], k[1], v[1], attend, tokens)])

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


def sharing_modules(
    model: nn.Module, family: Family, sites: Sequence[Site], text_entry: str | None
) -> Iterator[nn.Module]:
    """The largest modules that can share rows: in the trunk up to the first site, holding no landmark themselves."""
    landmarks = {site.path for site in sites} | ({text_entry} if text_entry else set())
    for block in _blocks(model, family):
        yield from _without(model, block, landmarks)
        if any(_holds(block, site.path) for site in sites):
            return


def _blocks(model: nn.Module, family: Family) -> Iterator[str]:
    for part in family.trunk:
        child = getattr(model, part, None)
        if isinstance(child, nn.ModuleList):
            yield from (f"{part}.{index}" for index in range(len(child)))
        elif child is not None:
            yield part


def _without(model: nn.Module, path: str, landmarks: set[str]) -> Iterator[nn.Module]:
    module = model.get_submodule(path)
    if path in landmarks:
        return
    # A list of modules is never called itself.
    if isinstance(module, nn.ModuleList) or any(_holds(path, landmark) for landmark in landmarks):
        for name, _ in module.named_children():
            yield from _without(model, f"{path}.{name}", landmarks)
    else:
        yield module


def _holds(path: str, landmark: str) -> bool:
    return landmark == path or landmark.startswith(path + ".")
