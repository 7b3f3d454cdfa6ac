"""What guidance costs: floating-point operations counted on the meta device, exact, without weights or time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pag.denoiser import GuidedDenoiser
from pag.families import Family, denoiser_of, family_of
from pag.guidance import Guidance
from pag.intercept import (
    AttentionOp,
    Call,
    Override,
    install,
    meta_copy,
    native_call,
    remove,
    running_on_meta,
    uncompiled,
)
from pag.layers import Layers, Site, select
from pag.rows import Rows


@dataclass(frozen=True)
class Cost:
    """Operations of one guided denoiser call for one image.

    Args:
        forward: floating-point operations of a plain forward of one row.
        rows: rows of a batch that shares nothing, which is what other tools run.
        executed: what is run here, in plain forwards of one row.
    """

    forward: int
    rows: int
    executed: float

    def __str__(self) -> str:
        return f"{self.executed:.2f} forwards a step ({self.rows}.00 without row sharing)"


@dataclass(frozen=True)
class LayerCost:
    """What perturbing one layer costs.

    Args:
        site: the layer.
        tokens: number of tokens there.
        resolution: height and width of the token grid there, or None if what is denoised is no image.
        extra: operations on top of an unguided forward, as a share of it.
        recommended: whether it is perturbed where no layers are chosen.
    """

    site: Site
    tokens: int
    resolution: tuple[int, int] | None
    extra: float
    recommended: bool


def cost(pipe_or_model: Any, layers: Layers | None = None, *, cfg: bool = True, share_rows: bool = True) -> Cost:
    """Count the operations of one guided step at the size that the model was trained for.

    Args:
        pipe_or_model: a pipeline or its denoiser, of which only the configuration is read.
        layers: the layers to perturb; default: those recommended for the family.
        cfg: whether classifier-free guidance is on.
        share_rows: whether equal rows are computed once.

    Raises:
        ValueError: if a layer does not exist.
        RuntimeError: if the model asks its tensors for values, which those that are counted do not have.
    """
    model, family = _meta(pipe_or_model)
    chosen = select(family.sites(model), family.recommended(model) if layers in (None, "auto") else layers)
    forward = _plain(model, family)
    if family.packed:  # the negative prompt has a forward of its own
        return Cost(forward, 3 if cfg else 2, int(cfg) + _guided(model, family, chosen, False, share_rows) / forward)
    return Cost(forward, 3 if cfg else 2, _guided(model, family, chosen, cfg, share_rows) / forward)


def layer_costs(pipe_or_model: Any) -> list[LayerCost]:
    """What perturbing each self-attention layer alone adds to an unguided forward, in the order in which they run.

    A perturbed row shares all that runs ahead of the layer, and skips the attention operation there. So one plain
    forward, counted as it goes, tells the cost of every layer.

    Raises:
        RuntimeError: if the model asks its tensors for values, which those that are counted do not have.
    """
    model, family = _meta(pipe_or_model)
    example = _example(model, family, 1)
    shape = tuple(example[family.sample].shape) if isinstance(example[family.sample], Tensor) else ()
    counter = FlopCounterMode(display=False)
    seen = _Trace(counter)
    sites = family.sites(model)
    modules = {site: model.get_submodule(site.path) for site in sites}
    overrides = [Override(module, seen.site(site, module)) for site, module in modules.items()]
    install(overrides)
    try:
        _run(model, example, counter)
    finally:
        remove(overrides)
    total = counter.get_total_flops()
    recommended = select(sites, family.recommended(model))
    costs: list[LayerCost] = []
    for site in sites:
        tokens = seen.tokens[site.path]
        shared = 0 if family.packed else seen.ahead[site.path]
        extra = 1 - (shared + seen.skipped[site.path]) / total
        costs.append(LayerCost(site, tokens, _grid(shape, tokens), extra, site in recommended))
    return costs


def _grid(shape: tuple[int, ...], tokens: int) -> tuple[int, int] | None:
    """Height and width of a grid of that many tokens, in the proportions of an image (rows, channels, y, x)."""
    if len(shape) != 4:
        return None
    shrink = math.isqrt(shape[2] * shape[3] // tokens)
    height, width = shape[2] // max(shrink, 1), shape[3] // max(shrink, 1)
    return (height, width) if height * width == tokens else None


@final
class _Trace:
    """Looks at each site as it runs: its tokens, and the operations ahead of it and in it, which are not repeated."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self._counter = counter
        self.tokens: dict[str, int] = {}
        self.ahead: dict[str, int] = {}
        self.skipped: dict[str, int] = {}

    def site(self, site: Site, module: nn.Module) -> Call:
        def attend(op: Call, query: Tensor, *args: Any, **options: Any) -> Tensor:
            before, skipped = self._counter.get_total_flops(), self.skipped[site.path]
            output = op(query, *args, **options)  # which may call another one
            self.tokens[site.path] = query.shape[-2]
            self.skipped[site.path] = skipped + self._counter.get_total_flops() - before
            return output

        def look(original: Call, *args: Any, **kwargs: Any) -> Any:
            self.ahead[site.path], self.skipped[site.path] = self._counter.get_total_flops(), 0
            with AttentionOp(attend):
                return native_call(module, original, attend)(*args, **kwargs)

        return look


@final
class _EqualRows:
    """A caller that passes equal rows, with or without classifier-free guidance."""

    guidance_scale = None
    guidance_rescale = 0.0

    def __init__(self, cfg: bool) -> None:
        self.groups = ("uncond", "cond") if cfg else ("cond",)

    def rows(self, sample: Any, role: str | None) -> Rows:
        return Rows(len(sample) // len(self.groups), self.groups)

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        return True

    def progress(self, timestep: Tensor | float | int) -> float:
        return 0.0

    def shares(self, deltas: list[Tensor]) -> list[Tensor]:
        return deltas

    def owed(self) -> list[Tensor] | None:
        return None


def _meta(pipe_or_model: Any) -> tuple[nn.Module, Family]:
    model = uncompiled(pipe_or_model if isinstance(pipe_or_model, nn.Module) else denoiser_of(pipe_or_model))
    family = family_of(model)
    _maker(model, family)
    return meta_copy(model), family


def _guided(model: nn.Module, family: Family, sites: Sequence[Site], cfg: bool, share_rows: bool) -> int:
    caller = _EqualRows(cfg)
    denoiser = GuidedDenoiser(model, family, sites, Guidance(share_rows=share_rows), caller)
    denoiser.attach()
    try:
        return _count(model, _example(model, family, len(caller.groups)))
    finally:
        denoiser.detach()


def _plain(model: nn.Module, family: Family) -> int:
    return _count(model, _example(model, family, 1))


def _example(model: nn.Module, family: Family, rows: int) -> dict[str, Any]:
    return _maker(model, family)(model, rows)


def _maker(model: nn.Module, family: Family) -> Callable[[Any, int], dict[str, Any]]:
    if family.example is None:
        raise TypeError(
            f"What {type(model).__name__} costs is not known without an example of its arguments: register its family "
            "with an `example`."
        )
    return family.example


def _count(model: nn.Module, arguments: dict[str, Any]) -> int:
    counter = FlopCounterMode(display=False)
    _run(model, arguments, counter)
    return counter.get_total_flops()


def _run(model: nn.Module, arguments: dict[str, Any], counter: FlopCounterMode) -> None:
    try:
        with torch.no_grad(), counter, running_on_meta():
            model(**arguments)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"What {type(model).__name__} costs cannot be counted without its weights: on the meta device, where "
            f"tensors have no values, it fails with {type(error).__name__}: {error}"
        ) from error
