"""What guidance costs: floating-point operations counted on the meta device, exact, without weights or time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from torch import Tensor, nn

from pag.controlnets import SharedControlNet, known_controlnets
from pag.counters import Operations
from pag.degraded import recommended
from pag.families import Attending, Family, controlnet_example
from pag.guidance import Guidance
from pag.intercept import (
    AttentionOp,
    Call,
    Override,
    input_names,
    install,
    meta_copy,
    native_call,
    remove,
    uncompiled,
)
from pag.layers import Layers, Site, automatic, select
from pag.meta import EqualRows, example_of, guided_on_meta, on_meta, run_on_meta
from pag.perturbations import INPUT_PERTURBATIONS
from pag.sharing import query_and_key_makers


@dataclass(frozen=True)
class Cost:
    """Operations of one guided denoiser call for one image, with the ControlNets that run ahead of it.

    Args:
        forward: floating-point operations of a plain forward of one row, of all these networks.
        rows: rows of a batch that shares nothing, which is what other tools run.
        floor: the least that exact arithmetic allows, in plain forwards of one row: up to the first perturbed attention
            operation a perturbed row is computed with its prompt's, there and at later ones without the map of the
            image, and the negative prompt's with them until the text enters.
        executed: what is run here, in plain forwards of one row.
    """

    forward: int
    rows: int
    floor: float
    executed: float

    def __str__(self) -> str:
        return (
            f"{self.executed:.2f} forwards a step ({self.rows}.00 without row sharing, {self.floor:.2f} at the least)"
        )


@dataclass(frozen=True)
class LayerCost:
    """What perturbing one layer costs.

    Args:
        site: the layer.
        tokens: number of tokens there.
        resolution: height and width of the token grid there, or None if what is denoised is no image.
        extra: operations on top of an unguided forward, as a share of it.
        extra_with_cfg: operations on top of the two forwards of classifier-free guidance in one call, as a share of
            them. Its rows share more than usual then: all up to the text.
        recommended: whether it is perturbed where no layers are chosen.
    """

    site: Site
    tokens: int
    resolution: tuple[int, int] | None
    extra: float
    extra_with_cfg: float
    recommended: bool


def cost(
    pipe_or_model: Any,
    layers: Layers | None = None,
    *,
    cfg: bool = True,
    share_rows: bool = True,
    perturbation: str = "identity",
) -> Cost:
    """Count the operations of one guided step at the size that the model was trained for.

    Args:
        pipe_or_model: a pipeline or its denoiser, of which only the configuration is read. A pipeline's ControlNets
            count too, if they are of those that share rows; peers run theirs on all rows.
        layers: the layers to perturb; default: those recommended for the family.
        cfg: whether classifier-free guidance is on.
        share_rows: whether equal rows are computed once.
        perturbation: name of the method. One that perturbs the input takes a whole forward more.

    Raises:
        ValueError: if a layer or a method does not exist.
        RuntimeError: if the model asks its tensors for values, which those that are counted do not have.
    """
    model, family = on_meta(pipe_or_model)
    one = _denoiser_cost(model, family, layers, cfg, Guidance(share_rows=share_rows, perturbation=perturbation))
    if isinstance(pipe_or_model, nn.Module):
        return one
    controls = [
        _control_cost(meta_copy(uncompiled(net)), kind, partial(example_of, model, family), cfg, share_rows)
        for net, kind in known_controlnets(pipe_or_model)
        if kind.trunk
    ]
    return _together([one, *controls])


def _together(costs: Sequence[Cost]) -> Cost:
    total = sum(one.forward for one in costs)
    floor = sum(one.forward * one.floor for one in costs) / total
    return Cost(total, costs[0].rows, floor, sum(one.forward * one.executed for one in costs) / total)


def _denoiser_cost(model: nn.Module, family: Family, layers: Layers | None, cfg: bool, guidance: Guidance) -> Cost:
    method = guidance.perturbation
    named = recommended(model, family, method) if layers is None or automatic(layers) else layers
    chosen = select(family.sites(model), named)
    seen = _traced(model, family, chosen)
    rows, floor = 3 if cfg else 2, 1 + (1.0 if method in INPUT_PERTURBATIONS else seen.extra(chosen))
    if family.packed:  # the negative prompt has a forward of its own
        executed = int(cfg) + _executed(model, family, chosen, False, guidance) / seen.total
        return Cost(seen.total, rows, floor + int(cfg), executed)
    executed = _executed(model, family, chosen, cfg, guidance) / seen.total
    return Cost(seen.total, rows, floor + int(cfg) * (1 - seen.before_text / seen.total), executed)


def _control_cost(
    net: nn.Module, family: Family, denoiser: Callable[[int], dict[str, Any]], cfg: bool, share_rows: bool
) -> Cost:
    """What a ControlNet costs. It has no perturbed rows, and up to the text one row serves for two.

    Args:
        net: the ControlNet, on the meta device.
        family: what is known of it.
        denoiser: arguments of the denoiser's forward for a number of rows.
        cfg: whether classifier-free guidance is on.
        share_rows: whether equal rows are computed once.
    """
    parts = [part for name in family.trunk if (part := getattr(net, name, None)) is not None]
    counter, shared = Operations(), 0

    def shares(original: Call, *args: Any, **kwargs: Any) -> Any:
        nonlocal shared
        before = counter.count
        output = original(*args, **kwargs)
        shared += counter.count - before
        return output

    def enter_text(original: Call, *args: Any, **kwargs: Any) -> Any:
        nonlocal shared
        shared = counter.count
        return original(*args, **kwargs)

    entry = family.text_entry(net)
    overrides = [Override(part, shares) for part in parts] if entry is None else []
    overrides += [] if entry is None else [Override(net.get_submodule(entry), enter_text)]
    install(overrides)
    try:
        run_on_meta(net, controlnet_example(net, denoiser(1), 1), counter)
    finally:
        remove(overrides)
    total = counter.count
    if not (cfg and share_rows):
        return Cost(total, 3 if cfg else 2, 1 + int(cfg) * (1 - shared / total), 1 + int(cfg))
    control = SharedControlNet(net, family, Guidance(), EqualRows(cfg))
    control.attach()
    try:
        counter = Operations()
        run_on_meta(net, controlnet_example(net, denoiser(2), 2), counter)
    finally:
        control.detach()
    return Cost(total, 3, 2 - shared / total, counter.count / total)


def layer_costs(pipe_or_model: Any) -> list[LayerCost]:
    """What perturbing each self-attention layer alone adds to an unguided forward, in the order in which they run.

    A perturbed row shares all that runs ahead of the attention operation there, and skips its map of the image. So one
    plain forward, counted as it goes, tells the cost of every layer.

    Raises:
        RuntimeError: if the model asks its tensors for values, which those that are counted do not have.
    """
    model, family = on_meta(pipe_or_model)
    sites = family.sites(model)
    seen = _traced(model, family, sites)
    recommended = select(sites, family.recommended(model))
    return [
        LayerCost(
            site,
            seen.tokens[site.path],
            seen.grid(site),
            extra := seen.extra([site]),
            (extra - seen.before_text / seen.total) / 2,
            site in recommended,
        )
        for site in sites
    ]


def _traced(model: nn.Module, family: Family, sites: Sequence[Site]) -> "_Trace":
    example = example_of(model, family, 1)
    seen = _Trace(model, family, example)
    overrides = [Override(model.get_submodule(site.path), seen.site(site)) for site in sites]
    overrides += [Override(maker, seen.maker(site)) for site in sites for maker in seen.makers(site)]
    if (entry := family.text_entry(model)) is not None:
        overrides.append(Override(model.get_submodule(entry), seen.enter_text))
    overrides += [Override(part, seen.text) for name in family.text_trunk if (part := getattr(model, name, None))]
    install(overrides)
    try:
        run_on_meta(model, example, seen.counter)
    finally:
        remove(overrides)
    seen.total = seen.counter.count
    return seen


@final
class _Trace:
    """Looks at each site as it runs: its tokens, the operations ahead of its attention, and those that are left out.

    Args:
        model: the network.
        family: what is known of it.
        call: arguments of its forward.
    """

    def __init__(self, model: nn.Module, family: Family, call: dict[str, Any]) -> None:
        self.counter = Operations()
        self.total = 0
        self.before_text = 0
        self._on_text = 0
        self.tokens: dict[str, int] = {}
        self._model, self._family, self._call = model, family, call
        self._ahead: dict[str, int] = {}
        self._left_out: dict[str, float] = {}
        self._makers: dict[str, int] = {}

    def extra(self, sites: Sequence[Site]) -> float:
        """What a row that is perturbed at these sites adds to a plain forward, as a share of it."""
        left_out = sum(self._left_out[site.path] for site in sites)
        if self._family.packed:
            return 1 - left_out / self.total
        first, *others = sites
        unneeded = sum(self._makers[site.path] for site in others)
        return 1 - (self._ahead[first.path] + left_out + unneeded) / self.total

    def grid(self, site: Site) -> tuple[int, int] | None:
        """Height and width of the grid of a site's tokens, in the proportions of an image (rows, channels, y, x)."""
        sample = self._call[self._family.sample]
        if not isinstance(sample, Tensor) or sample.ndim != 4:
            return None
        tokens, (height, width) = self.tokens[site.path], sample.shape[2:]
        shrink = max(math.isqrt(height * width // tokens), 1)
        grid = height // shrink, width // shrink
        return grid if math.prod(grid) == tokens else None

    def enter_text(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        """Answer for the module at which the text enters."""
        self.before_text = self.before_text or self.counter.count - self._on_text
        return original(*args, **kwargs)

    def text(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        """Answer for what the text goes through before it enters."""
        before = self.counter.count
        output = original(*args, **kwargs)
        self._on_text += self.counter.count - before
        return output

    def makers(self, site: Site) -> list[nn.Module]:
        """What makes queries and keys at a site."""
        return query_and_key_makers(self._model.get_submodule(site.path)) if self._family.image_alone else []

    def maker(self, site: Site) -> Call:
        """What answers for it: perturbed rows need neither where the image's tokens are alone."""

        def count(original: Call, *args: Any, **kwargs: Any) -> Any:
            before = self.counter.count
            output = original(*args, **kwargs)
            self._makers[site.path] += self.counter.count - before
            return output

        return count

    def site(self, site: Site) -> Call:
        """What answers for a site."""
        module = self._model.get_submodule(site.path)
        names = input_names(module)

        def look(original: Call, *args: Any, **kwargs: Any) -> Any:
            self._left_out[site.path] = self._makers[site.path] = 0
            inputs = dict(zip(names, args, strict=False)) | kwargs
            attend = partial(self._attend, site, inputs)
            with AttentionOp(attend):
                return native_call(module, original, attend)(*args, **kwargs)

        return look

    def _attend(
        self, site: Site, inputs: dict[str, Any], op: Call, query: Tensor, key: Tensor, *args: Any, **options: Any
    ) -> Tensor:
        before, left_out = self.counter.count, self._left_out[site.path]
        self._ahead.setdefault(site.path, before)
        output = op(query, key, *args, **options)  # which may call another one
        self.tokens[site.path] = query.shape[-2]
        map_of_image = self._image(site, inputs, query, key) ** 2 / (query.shape[-2] * key.shape[-2])
        if map_of_image < 1:
            self._makers[site.path] = 0
        self._left_out[site.path] = left_out + map_of_image * (self.counter.count - before)
        return output

    def _image(self, site: Site, inputs: dict[str, Any], query: Tensor, key: Tensor) -> int:
        """How many tokens of the image attend to one another in an operation."""
        attending = Attending(site, self._call, inputs, query.shape[-2], key.shape[-2], self._model.config)
        where = self._family.image(attending)
        image = where if isinstance(where, slice) or where is None else where[0]
        return 0 if image is None else image.stop - image.start


def _executed(model: nn.Module, family: Family, sites: Sequence[Site], cfg: bool, guidance: Guidance) -> int:
    counter = Operations()
    guided_on_meta(model, family, sites, cfg, guidance, counter)
    return counter.count
