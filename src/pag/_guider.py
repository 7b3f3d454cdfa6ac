"""The guider for Modular Diffusers: ``pipe.update_components(guider=pag.PerturbedAttentionGuider())``."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import Any, final

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders import BaseGuidance, ClassifierFreeGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from torch import Tensor, nn

from pag import combine
from pag._guide import guide_of
from pag.denoiser import GuidedDenoiser
from pag.families import family_of
from pag.guidance import Guidance
from pag.intercept import Call, Override, held_by_callers, uncompiled
from pag.layers import automatic, select
from pag.noise import Level
from pag.outputs import predictions_of, with_predictions
from pag.reuse import Deltas, Reuse
from pag.rows import Rows
from pag.schedule import Schedule, check_number

_COND, _UNCOND, _PERTURBED = "pred_cond", "pred_uncond", "pred_cond_perturbed"
_GROUPS = {_UNCOND: "uncond", _PERTURBED: "perturbed"}
_NAME: str = BaseGuidance._identifier_key  # pyright: ignore
_ANSWERED = "perturbed_by_pag"


class PerturbedAttentionGuider(ClassifierFreeGuidance):
    """Classifier-free guidance and Perturbed-Attention Guidance (PAG, arXiv 2403.17377) for pipelines with a guider.

    The guided prediction is ``u + g·(c − u) + s·(c − ĉ)``, and ``c + s·(c − ĉ)`` with classifier-free guidance off:
    ``c`` for the prompt, ``u`` for the negative prompt, ``ĉ`` for the prompt with perturbed self-attention. ``ĉ`` is
    computed in the same call of the denoiser as ``c``, and shares with it all that runs ahead of the perturbed layer.

    It is one for all: for modular pipelines, and for the standard pipelines that have a component ``guider``.
    Everything else is guided by :func:`pag.guide`.

    Args:
        guidance_scale: g. At 1 classifier-free guidance is off and costs nothing, and at 0 too.
        pag_scale: s, 0 (off) or more.
        pag_applied_layers: self-attention layers to perturb: one or more names as in :mod:`pag.layers`, or the index
            of a block. ``None`` and ``"auto"`` take those recommended for the denoiser.
        pag_adaptive_scale: a in ``max(0, s − a·(1000 − t))``, for a timestep t that falls from 1000 to 0; 0 keeps the
            scale constant.
        pag_start: share of the steps after which PAG begins; 0 begins with the first step.
        pag_stop: share of the steps after which PAG ends. Outside of the interval it costs nothing.
        guidance_rescale: how much the result is rescaled towards the standard deviation of ``c`` (arXiv 2305.08891).
        use_original_formulation: compute ``c + g·(c − u)`` instead, which is off at 0 only.
        start: share of the steps after which classifier-free guidance begins.
        stop: share of the steps after which it ends.
        enabled: False switches both off.
        reuse: in which steps ``c − u`` and ``c − ĉ`` are computed, and how they are extrapolated between
            (approximate): a :class:`~pag.reuse.Reuse`, or its fields as a dictionary. ``None``: in all steps.
        low_memory: compute ``ĉ`` after ``c``, which leaves it what both have in common. Exact, with a lower peak of
            memory.

    Raises:
        ValueError: if a number is out of range. A layer that does not exist is told in the first guided step.

    Example:
        >>> pipe.update_components(guider=pag.PerturbedAttentionGuider(guidance_scale=5.0, pag_scale=3.0))
    """

    _input_predictions = [_COND, _UNCOND, _PERTURBED]  # noqa: RUF012

    spatio_temporal_guidance_blocks = None
    """Of LTX-2's own guider, which its pipelines ask for it."""

    @register_to_config
    def __init__(
        self,
        guidance_scale: float = 7.5,
        pag_scale: float = 3.0,
        pag_applied_layers: str | int | Sequence[str | int] | None = None,
        pag_adaptive_scale: float = 0.0,
        pag_start: float = 0.0,
        pag_stop: float = 1.0,
        guidance_rescale: float = 0.0,
        use_original_formulation: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
        reuse: Reuse | dict[str, Any] | None = None,
        low_memory: bool = False,
    ) -> None:
        super().__init__(guidance_scale, guidance_rescale, use_original_formulation, start, stop, enabled)
        self._low_memory = low_memory
        self._reuse = Reuse(**reuse) if isinstance(reuse, dict) else reuse
        self.register_to_config(reuse=None if self._reuse is None else asdict(self._reuse))  # as JSON can hold it
        self.register_to_config(_use_default_values=[])  # diffusers takes positional arguments for such, and loses them
        check_number("pag_scale", pag_scale)
        check_number("pag_adaptive_scale", pag_adaptive_scale)
        check_number("pag_start", pag_start, most=1.0)
        check_number("pag_stop", pag_stop, most=1.0)
        self.pag_adaptive_scale = pag_adaptive_scale
        self.pag_applied_layers = _names(pag_applied_layers)
        self._schedule = Schedule(pag_scale, pag_start, pag_stop)
        self._batches: list[Any] = []
        self._branch: _Branch | None = None
        self._deltas: list[Deltas] = []
        self._combined = 0

    @property
    def pag_scale(self) -> float:
        """The scale s of PAG."""
        return self._schedule.scale

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a step. Whatever an interrupted run has left is taken off."""
        # A guider for the last steps only is not told of the first ones.
        begins = step == 0 or step <= (self._step or 0) or num_inference_steps != self._num_inference_steps
        super().set_state(step, num_inference_steps, timestep)
        self._step_out(for_good=step == 0)
        self._combined, self._deltas = 0, [] if begins else self._deltas
        for deltas in self._deltas:
            deltas.begin(step, num_inference_steps)

    def active_predictions(self) -> list[str]:
        """The predictions of this step, in the order in which the denoiser is called for them."""
        left_out = self._left_out()
        return [name for name in self._wanted() if name not in left_out]

    def _wanted(self) -> list[str]:
        perturbed = [_PERTURBED] if self._scale > 0 else []
        return [_COND, *perturbed, *([_UNCOND] if self._is_cfg_enabled() else [])]

    def _left_out(self) -> list[str]:
        """The predictions that need not be computed in this step."""
        if not self._deltas:
            return []
        groups = [_GROUPS[name] for name in self._wanted() if name != _COND]
        left_out = self._deltas[0].left_out(groups)
        return [name for name, group in _GROUPS.items() if group in left_out]

    def prepare_inputs(self, data: Any) -> list[Any]:
        """The inputs of each prediction."""
        return self._prepared(lambda name: self._prepare_batch(data, int(name == _UNCOND), name))

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        """The inputs of each prediction, by the names of the fields that hold them."""
        return self._prepared(
            lambda name: self._prepare_batch_from_block_state(input_fields, data, int(name == _UNCOND), name)
        )

    def _prepared(self, batch: Call) -> list[Any]:
        batches = [batch(name) for name in self.active_predictions()]
        self._batches += batches  # one guider may serve video and audio, whose batches are merged
        return batches

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Step into the next call of the denoiser.

        Raises:
            TypeError: if the denoiser cannot be guided.
            ValueError: if a layer does not exist; the message lists those that do.
            RuntimeError: if the denoiser is guided already.
        """
        self._count_prepared += 1
        if not self._perturbs:
            return
        if (other := guide_of(denoiser)) is not None:
            raise RuntimeError(f"The denoiser is guided already, by {other}. Detach that first.")
        if self._branch is None or not self._branch.serves(denoiser):
            self._branch = _Branch(denoiser, self.pag_applied_layers, self._low_memory)
        self._branch.step_in(self._batches)

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Give the denoiser's call back."""
        if self._branch is not None:
            self._branch.step_out()

    def __call__(self, data: list[Any]) -> GuiderOutput:
        """The guided prediction, from batches with their prediction in ``noise_pred``.

        Raises:
            RuntimeError: if the pipeline called the denoiser in a way that could not be followed.
        """
        predictions: dict[str, Tensor] = {getattr(one, _NAME): one.noise_pred for one in data}
        if self._perturbs and not any(getattr(one, _ANSWERED, False) for one in data):
            raise RuntimeError(
                "The denoiser's call for the prompt was not perturbed: the pipeline must call `prepare_models` of this "
                "guider, and hold the batch that it calls the denoiser for in a local variable, as diffusers' own do."
            )
        self._step_out(for_good=(self._step or 0) + 1 == self._num_inference_steps)
        return self.forward(**predictions)

    def forward(
        self, pred_cond: Tensor, pred_uncond: Tensor | None = None, pred_cond_perturbed: Tensor | None = None
    ) -> GuiderOutput:
        """``u + g·(c − u) + s·(c − ĉ)`` of the predictions that there are."""
        c = _exact(pred_cond)
        u, p = self._completed(c, pred_uncond, pred_cond_perturbed)
        result = c
        if u is not None:
            g = self.guidance_scale + 1 if self.use_original_formulation else self.guidance_scale
            result = combine.classifier_free(u, c, g)
        if p is not None:
            result = result + combine.delta(c, p, self._scale)
        if self.guidance_rescale > 0 and result is not c:
            result = combine.rescale(result, c, self.guidance_rescale)
        return GuiderOutput(pred=result.to(pred_cond.dtype), pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _completed(self, c: Tensor, u: Tensor | None, p: Tensor | None) -> list[Tensor | None]:
        given = {name: [_exact(one)] for name, one in ((_UNCOND, u), (_PERTURBED, p)) if one is not None}
        if self._reuse is not None and self._num_inference_steps:
            if self._combined == len(self._deltas):  # one guider may serve video and audio in turn
                self._deltas.append(Deltas(self._reuse))
                self._deltas[-1].begin(self._step, self._num_inference_steps)
            deltas, self._combined = self._deltas[self._combined], self._combined + 1
            computed = {_GROUPS[name]: one for name, one in given.items()}
            wanted = [_GROUPS[name] for name in self._wanted() if name != _COND]
            left_out = [group for group in wanted if group not in computed]
            completed = deltas.completed([c], computed, left_out)
            given = {name: completed[group] for name, group in _GROUPS.items() if group in completed}
        return [given[name][0] if name in given else None for name in (_UNCOND, _PERTURBED)]

    @property
    def _perturbs(self) -> bool:
        """Whether the perturbed prediction is computed in this step."""
        return _PERTURBED in self.active_predictions()

    @property
    def is_conditional(self) -> bool:
        """Whether the call that was prepared last is for the prompt."""
        last = self._batches[self._count_prepared - 1 : self._count_prepared]
        return [getattr(one, _NAME) for one in last] != [_UNCOND]

    def _is_cfg_enabled(self) -> bool:
        native = not self.use_original_formulation
        return super()._is_cfg_enabled() and not (native and math.isclose(self.guidance_scale, 0.0))

    @property
    def _scale(self) -> float:
        """The scale of PAG in this step."""
        if not self._enabled:
            return 0.0
        scale = self._schedule.at(self._step / self._num_inference_steps if self._num_inference_steps else 0.0)
        fall = self.pag_adaptive_scale * (1000 - float(self._timestep)) if self.pag_adaptive_scale else 0.0
        return max(0.0, scale - fall)

    def _step_out(self, for_good: bool) -> None:
        self._batches = []
        if self._branch is not None:
            self._branch.step_out()
            self._branch.forget()
        if for_good:
            self._branch = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy has nothing to do with the run that is under way, nor with its denoiser.
        return vars(self) | {"_batches": [], "_branch": None, "_deltas": []}


@final
class _Branch:
    """The prompt's call of the denoiser, with perturbed rows in it, and their prediction kept for a call of its own.

    The pipeline may do anything with a prediction before the guider gets it: take a part of it, change its sign or
    what it parametrises. So it makes a second call for the perturbed prediction, which is answered without computing.

    A call is told by the batch that it is made for, which is in a local variable of whoever makes it. An interrupted
    step so leaves nothing that could touch somebody else's call.

    Args:
        model: the denoiser, compiled or not.
        layers: names of the layers to perturb; None takes those recommended for the family.
        low_memory: whether the perturbed rows run after the others.
    """

    guidance_scale = None
    guidance_rescale = 0.0

    def __init__(self, model: nn.Module, layers: list[str] | None, low_memory: bool) -> None:
        inner = uncompiled(model)
        family = family_of(inner)
        sites = select(family.sites(inner), family.recommended(inner) if layers is None else layers)
        self.model = model
        self._count = family.predictions
        self._denoiser = GuidedDenoiser(model, family, sites, Guidance(1.0, low_memory=low_memory), self, "cond")
        self._override = Override(model, self._answer, outermost=True)
        self._batches: Sequence[Any] = ()
        self._inside = False
        self._deltas: Sequence[Tensor] = ()
        self._perturbed: Any = None

    def serves(self, model: nn.Module) -> bool:
        """Whether it is for this denoiser, and not beneath somebody else's wrapper by now."""
        return model is self.model and not self._override.spent

    def step_in(self, batches: Sequence[Any]) -> None:
        """Take over the denoiser's call for one of the batches."""
        self._override.remove()
        self._batches = batches
        self._override.install()

    def step_out(self) -> None:
        """Give the call back."""
        self._override.remove()

    def forget(self) -> None:
        """Let go of what belongs to a step."""
        self._batches, self._deltas, self._perturbed = (), (), None

    # What is looked up among Python's frames cannot be traced.
    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _answer(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        batch = None if self._inside else held_by_callers(self._batches)
        name = getattr(batch, _NAME, None)
        if name == _PERTURBED and self._perturbed is not None:
            setattr(batch, _ANSWERED, True)
            answer, self._perturbed = self._perturbed, None
            return answer
        return self._both(*args, **kwargs) if name == _COND else original(*args, **kwargs)

    def _both(self, *args: Any, **kwargs: Any) -> Any:
        self._inside = True
        self._denoiser.attach()
        try:
            output = self.model(*args, **kwargs)
        finally:
            self._denoiser.detach()
            self._inside = False
        plain = predictions_of(output, self._count)
        worse = [(_exact(c) - delta).to(c.dtype) for c, delta in zip(plain, self._deltas, strict=True)]
        self._perturbed, self._deltas = with_predictions(output, worse), ()
        return output

    def rows(self, sample: Any, role: str | None) -> Rows:
        """All rows are the prompt's."""
        return Rows(len(sample), ("cond",))

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """A single group equals itself."""
        return True

    def progress(self, timestep: Tensor | float | int) -> float:
        """The guider itself knows when it is on."""
        return 0.0

    def level(self, timestep: Tensor | float | int) -> Level:
        """Only methods ask for it that perturb the input, which no guider does."""
        raise NotImplementedError

    def shares(self, deltas: list[Tensor]) -> list[Tensor]:
        """Nothing is added to the prompt's prediction; the difference is kept."""
        self._deltas = deltas
        return [torch.zeros_like(delta) for delta in deltas]

    def owed(self) -> list[Tensor] | None:
        """No other call is touched."""
        return None

    def deltas(self, key: Hashable = None) -> None:
        """The guider itself knows what it reuses."""


def _names(layers: Any) -> list[str] | None:
    if automatic(layers):
        return None
    given = layers if isinstance(layers, list | tuple) else [layers]
    if not given or not all(isinstance(one, str | int) and not isinstance(one, bool) for one in given):  # pyright: ignore
        raise TypeError(
            f"pag_applied_layers must be a name, an index of a block or a list of these, but is {layers!r}."
        )
    return [str(one) for one in given]  # pyright: ignore


def _exact(prediction: Tensor) -> Tensor:
    """Differences of close predictions cancel, so half precision is left for the result only."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
