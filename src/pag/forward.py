"""Inside one forward of the denoiser: rows that are equal are computed once, then perturbed ones part from them."""

import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from pag.families import Family
from pag.intercept import AttentionOp, Call, Override, install, native_call, processor_name, remove
from pag.layers import Site
from pag.perturbations import PERTURBATIONS, Tokens
from pag.rows import Rows, Stage


@final
class GuidedForward:
    """Steps into the modules of a network. While no rows are given, every one of them runs as always.

    Args:
        model: the network, not its compiled wrapper.
        family: what is known of its class.
        sites: the self-attention layers to perturb.
        perturbation: name of the method.
    """

    def __init__(self, model: nn.Module, family: Family, sites: Sequence[Site], perturbation: str) -> None:
        self.text_entry = family.text_entry(model)
        """Path of the module at which the text enters, or None if it is in from the start."""
        self._sites = {site: model.get_submodule(site.path) for site in sites}
        self._perturbation = PERTURBATIONS[perturbation]
        self._rows: Rows | None = None
        self._stage = Stage.PARTED
        self._perturbed: list[str] = []
        self._overrides = [
            Override(module, partial(self._perturb, module, site.path)) for site, module in self._sites.items()
        ]
        if self.text_entry is not None:
            self._overrides.append(Override(model.get_submodule(self.text_entry), self._enter_text))
        shared = sharing_modules(model, family, sites, self.text_entry)
        self._overrides += [Override(module, self._share_rows) for module in shared]

    def serves(self, other: "GuidedForward") -> bool:
        """Whether this one can do what the other would: step into the same modules."""
        mine, its = self._overrides, other._overrides
        same = len(mine) == len(its) and all(a.module is b.module for a, b in zip(mine, its, strict=True))
        return same and not any(override.spent for override in mine)

    def attach(self) -> None:
        """Take over the calls."""
        install(self._overrides)

    def detach(self) -> None:
        """Give the calls back."""
        remove(self._overrides)

    @contextmanager
    def running(self, rows: Rows, stage: Stage) -> Generator[None]:
        """While a guided call is under way.

        Args:
            rows: the rows of the call.
            stage: from which stage on rows are computed; ``PARTED`` computes them all.

        Raises:
            RuntimeError: if a layer was not perturbed.
        """
        self._stage, self._perturbed, self._rows = stage, [], rows
        try:
            yield
        finally:
            self._rows = None
        if missing := [site for site in self._sites if site.path not in self._perturbed]:
            raise RuntimeError(
                "Guidance did not reach "
                + ", ".join(f"{site} ({processor_name(self._sites[site])})" for site in missing)
                + ": the layer did not run, or its attention processor makes no call of scaled_dot_product_attention. "
                "Name other layers, or set diffusers' AttnProcessor2_0 there."
            )

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
        q, k, v = (rows.split(tensor) for tensor in (query, key, value))
        normal_mask, perturbed_mask = (None, None) if attn_mask is None else rows.split(attn_mask)
        normal = op(q[0], k[0], v[0], normal_mask, *args, **options)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return op(q, k, v, perturbed_mask, *args, **options)

        tokens = Tokens(image=slice(0, query.shape[-2]))
        return torch.cat([normal, self._perturbation(q[1], k[1], v[1], attend, tokens)])


_kept: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[Sequence[Site], str], GuidedForward]]"
_kept = weakref.WeakKeyDictionary()


def guided_forward(model: nn.Module, family: Family, sites: Sequence[Site], perturbation: str) -> GuidedForward:
    """The guided forward of a network, the same one each time: a new one would make torch.compile trace anew."""
    made = GuidedForward(model, family, sites, perturbation)
    kept = _kept.setdefault(model, {}).setdefault((tuple(sites), perturbation), made)
    # Loading a LoRA, say, puts new modules in the place of old ones.
    if not kept.serves(made):
        _kept[model][tuple(sites), perturbation] = kept = made
    return kept


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
