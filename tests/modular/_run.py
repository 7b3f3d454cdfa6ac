"""One whole run of a modular pipeline on tiny random components, and a guider that is the formula and nothing else."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import modular_pipelines
from diffusers.guiders import BaseGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from torch import Tensor, nn

import pag
from tests import masked
from tests.runs._run import Memory


@dataclass(frozen=True)
class ModularRun:
    """A run.

    Args:
        blocks: class name of the pipeline's blocks in diffusers.
        components: makes the components of the denoising loop, without guiders.
        arguments: makes the arguments of the run, without generator and number of steps.
        path: the self-attention layer to perturb.
        image: positions of the image's tokens among the queries there (see ``tests.masked.perturbed``).
        keep: the blocks to run; those before and after need text encoders and the like.
        guiders: names of the guiders.
        output: name of the result.
        distilled: whether it is made for no classifier-free guidance.
        steps: number of steps, None if the arguments tell.
    """

    blocks: str
    components: Callable[[], dict[str, Any]]
    arguments: Callable[[], dict[str, Any]]
    path: str
    image: masked.Image = None
    keep: Sequence[str] = ("denoise",)
    guiders: Sequence[str] = ("guider",)
    output: str = "latents"
    distilled: bool = False
    steps: int | None = 3
    reference: Callable[[nn.Module, str], Any] | None = None

    def make(self) -> Any:
        """The pipeline, reduced to its denoising loop."""
        blocks: Any = getattr(modular_pipelines, self.blocks)()
        for name in list(blocks.sub_blocks):
            if name not in self.keep:
                blocks.sub_blocks.pop(name)
        pipe = blocks.init_pipeline()
        components = self.components()
        for name in components.keys() - set(
            pipe.component_names
        ):  # of blocks that do not run, but whose sizes are asked for
            setattr(pipe, name, components.pop(name))
        pipe.update_components(**components)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def sample(self, pipe: Any, *guiders: BaseGuidance, **arguments: Any) -> Tensor:
        """The final latents; the same noise each time.

        Args:
            pipe: the pipeline.
            *guiders: one for each name, or one for all.
            **arguments: more arguments of the run.
        """
        each = guiders if len(guiders) == len(self.guiders) else guiders * len(self.guiders)
        pipe.update_components(**dict(zip(self.guiders, each, strict=True)))
        given = self.arguments() | arguments
        if self.steps is not None:
            given = {"num_inference_steps": self.steps} | given
        torch.manual_seed(0)
        result = pipe(**given, generator=torch.Generator().manual_seed(0), output=self.output)
        return (torch.cat(result) if isinstance(result, list) else result).detach().clone()


class Formula(BaseGuidance):
    """``u + g·(c − u) + s·(c − ĉ)`` by separate calls, the last one with attention masked densely.

    Args:
        run: where to perturb; of a standard pipeline too.
        g: scale of classifier-free guidance, None for none.
        s: scale of perturbed-attention guidance, as a function of step and timestep.
        rescale: how much to rescale towards the standard deviation of ``c``.
        reuse: in which steps ``c − u`` and ``c − ĉ`` are taken as computed.
    """

    _input_predictions = ["c", "u", "p"]  # noqa: RUF012
    spatio_temporal_guidance_blocks = None

    def __init__(
        self,
        run: Any,
        g: float | None,
        s: Callable[[int, float], float] | float = 0.0,
        rescale: float = 0.0,
        reuse: pag.Reuse | None = None,
    ) -> None:
        super().__init__()
        self._memory, self._last = None if reuse is None else Memory(reuse, 1, 0), -1
        self.guidance_scale = 0.0 if g is None else g
        self._run, self._g, self._s, self._rescale = run, g, s, rescale
        self._context = ExitStack()
        self.register_to_config()  # a pipeline takes nothing without a configuration

    def _reused(self, memory: Memory, c: Tensor, p: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self._step <= self._last or self._last < 0:
            memory.reset()
            memory.steps, memory.of_steps = self._num_inference_steps - self._step, self._num_inference_steps
        self._last = self._step
        memory.begin(True)
        return c - memory.delta("perturbed", c, p), None if u is None else c - memory.delta("u", c, u)

    @property
    def num_conditions(self) -> int:
        return 1 if self._g is None else 2

    @property
    def is_conditional(self) -> bool:
        return self.active_predictions()[self._count_prepared - 1] != "u"

    def active_predictions(self) -> list[str]:
        return ["c", "u", "p"] if self._g is not None else ["c", "p"]

    def prepare_inputs(self, data: Any) -> list[Any]:
        return [self._prepare_batch(data, int(name == "u"), name) for name in self.active_predictions()]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        return [
            self._prepare_batch_from_block_state(input_fields, data, int(name == "u"), name)
            for name in self.active_predictions()
        ]

    def prepare_models(self, denoiser: nn.Module) -> None:
        self._count_prepared += 1
        if self._count_prepared == len(self.active_predictions()):
            self._context.enter_context(masked.perturbs(denoiser, self._run.path, self._run.image, self._run.reference))

    def cleanup_models(self, denoiser: nn.Module) -> None:
        self._context.close()

    def __call__(self, data: list[Any]) -> GuiderOutput:
        named: dict[str, Tensor] = {getattr(one, self._identifier_key): one.noise_pred for one in data}
        c, p, u = named["c"], named["p"], named.get("u")
        if self._memory is not None:
            p, u = self._reused(self._memory, c, p, u)
        pred = c if u is None or self._g is None else u + self._g * (c - u)
        pred = pred + self._scale * (c - p)
        if self._rescale:
            axes = list(range(1, c.ndim))
            ratio = c.std(dim=axes, keepdim=True) / pred.std(dim=axes, keepdim=True)
            pred = self._rescale * pred * ratio + (1 - self._rescale) * pred
        return GuiderOutput(pred=pred, pred_cond=c, pred_uncond=u)

    @property
    def _scale(self) -> float:
        return self._s(self._step, float(self._timestep)) if callable(self._s) else self._s
