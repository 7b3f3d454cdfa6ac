"""The front door: ``with pag.guide(pipe, scale=3.0): pipe(…)``."""

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from torch import nn

from pag.caller import PipelineCaller
from pag.controlnets import SharedControlNet, known_controlnets
from pag.costs import Cost, cost
from pag.degraded import check_convention, check_input, recommended
from pag.denoiser import GuidedDenoiser
from pag.families import Family, denoiser_of, denoisers_of, family_of
from pag.guidance import Guidance
from pag.intercept import uncompiled
from pag.layers import Layers, Site, automatic, select
from pag.perturbations import INPUT_PERTURBATIONS
from pag.reuse import Reuse, reuse_of

# Weak on both sides: a guided network that is dropped takes its guide along, for which it is held by the network.
_guided: "weakref.WeakKeyDictionary[nn.Module, weakref.ref[Guide]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class _Part:
    """One denoiser of a pipeline."""

    name: str
    model: nn.Module
    family: Family
    sites: tuple[Site, ...]
    role: str | None


def guide_of(model: nn.Module) -> "Guide | None":
    """What guides a denoiser at present."""
    guided = _guided.get(uncompiled(model))
    return None if guided is None else guided()


def _part(name: str, model: nn.Module, guidance: Guidance, layers: Layers | None) -> _Part:
    inner = uncompiled(model)
    family = family_of(inner)
    wanted = next((given for given in (layers, guidance.layers) if not automatic(given)), None)
    chosen = recommended(inner, family, guidance.perturbation) if wanted is None else wanted
    sites = select(family.sites(inner), chosen)
    if guidance.perturbation in INPUT_PERTURBATIONS:
        check_input(inner, family, sites, guidance.perturbation)
    return _Part(name, model, family, sites, "uncond" if name.startswith("unconditional") else None)


class Guide:
    """Guidance on one pipeline: on inside ``with``, or between :meth:`attach` and :meth:`detach`.

    Attributes:
        guidance: the settings, with the layers as full module paths.
        sites: the self-attention layers that are perturbed, of the first denoiser if there are several.
    """

    def __init__(self, pipe: Any, guidance: Guidance, layers: Layers | None = None) -> None:
        if hasattr(pipe, "_apply_perturbed_attention_guidance"):
            raise TypeError(
                f"{type(pipe).__name__} of diffusers adds perturbed rows itself. Guide the plain pipeline: "
                "`StableDiffusionPipeline.from_pipe(pipe)`, or use `pag.StableDiffusionPAGPipeline`."
            )
        if hasattr(pipe, "update_components") and hasattr(pipe, "guider"):
            raise TypeError(
                f"{type(pipe).__name__} leaves guidance to its guider: "
                "`pipe.update_components(guider=pag.PerturbedAttentionGuider(…))`."
            )
        self._parts = [_part(name, model, guidance, layers) for name, model in denoisers_of(pipe).items()]
        if guidance.perturbation in INPUT_PERTURBATIONS:
            check_convention(type(pipe).__name__, self._parts[0].family.convention_of(pipe), guidance.perturbation)
        self.sites: tuple[Site, ...] = self._parts[0].sites
        self.guidance = replace(guidance, layers=tuple(site.path for site in self.sites))
        self._pipe = pipe
        self._denoisers: list[GuidedDenoiser] = []
        self._controlnets: list[SharedControlNet] = []

    @property
    def attached(self) -> bool:
        """Whether guidance is on."""
        return bool(self._denoisers)

    def attach(self) -> Self:
        """Switch guidance on until :meth:`detach`.

        Raises:
            RuntimeError: if a denoiser is guided already, by this or by another pipeline that shares it.
        """
        for part in self._parts:
            if (inner := uncompiled(part.model)) in _guided:
                raise RuntimeError(
                    f"The denoiser is guided already, by {_guided[inner]()}. Detach that first. "
                    "(A PAG pipeline's own guidance is off with pag_scale=0.)"
                )
        reuse = self.guidance.reuse if self.guidance.scale > 0 else None
        caller = PipelineCaller(self._pipe, self._parts[0].family.convention_of(self._pipe), reuse)
        try:
            for part in self._parts:
                denoiser = GuidedDenoiser(part.model, part.family, part.sites, self.guidance, caller, part.role)
                denoiser.attach(owner=self)
                self._denoisers.append(denoiser)
                _guided[uncompiled(part.model)] = weakref.ref(self)
            if self.guidance.share_rows or reuse is not None:
                self._step_into_controlnets(caller)
        except BaseException:
            self.detach()
            raise
        return self

    def _step_into_controlnets(self, caller: PipelineCaller) -> None:
        # Methods that begin with the negative prompt's prediction read its rows in more steps than reuse alone tells.
        denoiser = None if self.guidance.perturbation in INPUT_PERTURBATIONS else caller
        convention = self._parts[0].family.convention_of(self._pipe)
        for net, family in known_controlnets(self._pipe):
            # Each follows the run by itself: they are called ahead of the denoiser.
            ahead = PipelineCaller(self._pipe, convention, denoiser=denoiser)
            control = SharedControlNet(net, family, self.guidance, ahead)
            control.attach()
            self._controlnets.append(control)

    def detach(self) -> None:
        """Switch guidance off; the pipeline is as it was. Without effect if it is off."""
        while self._controlnets:
            self._controlnets.pop().detach()
        while self._denoisers:
            self._denoisers.pop().detach()
            del _guided[uncompiled(self._parts[len(self._denoisers)].model)]

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Switch guidance off.

        Raises:
            RuntimeError: if the pipeline got another denoiser meanwhile, which was not guided.
        """
        self.detach()
        if error is None:
            self._check_denoisers()

    def _check_denoisers(self) -> None:
        for part in self._parts:
            now = getattr(self._pipe, part.name, None)
            # None where a pipeline was taken apart to free memory.
            if isinstance(now, nn.Module) and uncompiled(now) is not uncompiled(part.model):
                raise RuntimeError(
                    f"The pipeline's {part.name} was replaced while guidance was attached. The new one is not guided: "
                    "replace it first, then call `pag.guide` and sample again."
                )

    @cached_property
    def cost(self) -> Cost:
        """What a step costs with classifier-free guidance off; with it on, one forward more at the most."""
        settings = self.guidance
        how = settings.perturbation
        return cost(self._pipe, settings.layers, cfg=False, share_rows=settings.share_rows, perturbation=how)

    def __repr__(self) -> str:
        if self._parts[0].family.example is None:
            return str(self)
        try:
            extra = self.cost.executed - 1
        except RuntimeError:  # the network cannot be counted
            return str(self)
        return f"{str(self)[:-1]}, +{extra:.0%} of a forward per image and step>"

    def __str__(self) -> str:
        settings, where = self.guidance, ", ".join(map(str, self.sites))
        when = "" if (settings.start, settings.stop) == (0, 1) else f" from {settings.start:g} to {settings.stop:g}"
        state = "attached" if self.attached else "detached"
        how = "" if settings.reuse is None else f", {settings.reuse}"
        return f"<{settings.perturbation} guidance, scale {settings.scale:g}{when}, at {where}{how}, {state}>"


def guide(
    pipe: Any,
    scale: float | None = None,
    *,
    layers: Layers | None = None,
    start: float = 0.0,
    stop: float = 1.0,
    adaptive_scale: float = 0.0,
    perturbation: str = "identity",
    share_rows: bool = True,
    low_memory: bool = False,
    speed: str | None = None,
    reuse: Reuse | None = None,
) -> Guide:
    """Guide a diffusers pipeline by its own prediction with perturbed self-attention (PAG, arXiv 2403.17377).

    Args:
        pipe: a diffusers pipeline. It is not changed; its denoiser is guided while the result is attached.
        scale: s in ``guided + s·(c − ĉ)``, 0 (off) or more. Default: the one recommended for the family, that of SAG.
        layers: names of self-attention layers in any spelling of :mod:`pag.layers`, or a predicate of a
            :class:`~pag.layers.Site`. ``"auto"``, the default: those recommended for the family (``"mid"`` for U-Nets).
            Of a pipeline with several denoisers, the same layers of each.
        start: progress at which guidance begins, 0 at pure noise and 1 at the clean image.
        stop: progress at which guidance ends.
        adaptive_scale: a in ``max(0, s − a·(1000 − t))``; 0 keeps the scale constant.
        perturbation: name of the method: ``"identity"`` is PAG, ``"frame_identity"`` the same within each frame of a
            video, ``"sag"`` self-attention guidance (arXiv 2210.00939), which blurs the predicted image where one layer
            looks, and predicts once more; ``"sag_pixels"`` the same with a blur for images of 256×256 pixels.
        share_rows: compute equal rows once (exact).
        low_memory: run the perturbed rows after the others, which leave them what both have in common: exact, with as
            many operations, for less memory (see :func:`pag.memory`).
        speed: ``"exact"``, the default, or ``"fast"``: differences of predictions, of classifier-free guidance too, are
            computed in every fourth step and held in between, which is approximate.
        reuse: the same in detail.

    Returns:
        A context manager, also usable through ``attach()`` and ``detach()``.

    Raises:
        TypeError: if the pipeline's denoiser is of no known family, or an argument has the wrong type.
        ValueError: if a layer does not exist or a number is out of range.

    Example:
        >>> with pag.guide(pipe, scale=3.0):
        ...     image = pipe("a corgi", guidance_scale=5.0).images[0]
    """
    if scale is None:
        method = INPUT_PERTURBATIONS.get(perturbation)
        scale = family_of(uncompiled(denoiser_of(pipe))).scale if method is None else method.scale
    guidance = Guidance(
        scale,
        None,
        start,
        stop,
        adaptive_scale=adaptive_scale,
        perturbation=perturbation,
        share_rows=share_rows,
        low_memory=low_memory,
        reuse=reuse_of(speed, reuse),
    )
    return Guide(pipe, guidance, layers)


def sites(pipe_or_model: Any) -> tuple[Site, ...]:
    """The self-attention layers of a pipeline's denoiser, or of a denoiser, in the order in which they run."""
    model = uncompiled(pipe_or_model if isinstance(pipe_or_model, nn.Module) else denoiser_of(pipe_or_model))
    return family_of(model).sites(model)
