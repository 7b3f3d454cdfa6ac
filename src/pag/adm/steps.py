"""One step of sampling, with the scheduler that a pipeline has."""

import inspect
from typing import Any, final

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm_parallel import DDPMParallelScheduler
from jaxtyping import Float
from torch import Tensor

__all__ = ["Steps", "check_scheduler"]

_LEARNED = ("learned", "learned_range")


def check_scheduler(scheduler: Any) -> None:
    """Raise if a scheduler is for other models than those that predict the noise of diffusion.

    Raises:
        ValueError: if it is.
    """
    config, name = scheduler.config, type(scheduler).__name__
    flow = "FlowMatch" in name or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    if flow:
        raise ValueError(
            f"{name} is for models that predict a flow, but this one predicts noise. Take one of "
            "`DDIMScheduler().compatibles`, or without `use_flow_sigmas`."
        )


@final
class Steps:
    """From one noisy sample to the next.

    Args:
        scheduler: any of those that :func:`check_scheduler` lets pass.
        channels: of an image; what the model predicts beyond them is a learned variance.
        eta: how much noise DDIM adds.
        generator: one, or one for each image.

    Raises:
        ValueError: if the scheduler cannot do this.
    """

    def __init__(self, scheduler: Any, channels: int, eta: float, generator: Any) -> None:
        check_scheduler(scheduler)
        known = inspect.signature(scheduler.step).parameters
        if eta and "eta" not in known:
            raise ValueError(f"eta={eta} is for DDIM, but the scheduler is {type(scheduler).__name__}, without eta.")
        # As the original re-derives the noise from the clamped image.
        given = {"eta": eta, "use_clipped_model_output": True, "generator": generator}
        self._more = {name: value for name, value in given.items() if name in known}
        self._scheduler = scheduler
        self._channels = channels
        # Schedulers keep options of others in their configuration, so that the class must be asked.
        is_ddpm = isinstance(scheduler, DDPMScheduler | DDPMParallelScheduler)
        self._learned = is_ddpm and scheduler.config["variance_type"] in _LEARNED

    def next(
        self, output: Float[Tensor, "images outputs height width"], timestep: Any, sample: Tensor
    ) -> Float[Tensor, "images channels height width"]:
        """The sample at the next, lower noise level.

        Args:
            output: what the denoiser returned: the noise and, if it learned that, the variance.
            timestep: the present one.
            sample: the present sample.

        Raises:
            ValueError: if the scheduler takes a learned variance, which the model lacks.
        """
        if self._learned and output.shape[1] != 2 * self._channels:
            raise ValueError(
                f"{type(self._scheduler).__name__} takes a learned variance (variance_type="
                f"{self._scheduler.config.variance_type!r}), which this model does not predict: "
                "`DDPMScheduler.from_config(pipe.scheduler.config, variance_type='fixed_small')`."
            )
        output = output if self._learned else output[:, : self._channels]
        with torch.no_grad():
            return self._scheduler.step(output, timestep, sample, **self._more, return_dict=False)[0]
