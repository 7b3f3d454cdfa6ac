"""One step of sampling, with the scheduler that a pipeline has."""

import inspect
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from pag.adm.gradient import noise_share
from pag.adm.respace import DDPM, is_respaced, respaced, step_variance

__all__ = ["Steps", "check_scheduler"]

_LEARNED = ("learned", "learned_range")


def check_scheduler(scheduler: Any, **options: Any) -> None:
    """Raise if a scheduler is for other models than those that predict the noise of diffusion.

    Args:
        scheduler: the scheduler.
        **options: of the call, that it must know unless they are 0.

    Raises:
        ValueError: if it is, or if it does not know an option.
    """
    config, name = scheduler.config, type(scheduler).__name__
    flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    # All that step along the noise levels of trained timesteps have this table; those for flows or EDM have none.
    if flow or not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{name} is for models that predict a flow or the like, but this one predicts the noise of a diffusion: "
            "take DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler or another such, without `use_flow_sigmas`."
        )
    for option, value in options.items():
        if value and option not in inspect.signature(scheduler.step).parameters:
            raise ValueError(f"{name} knows no {option}, but {option}={value} was given. Take DDIMScheduler, or 0.")


@final
class Steps:
    """From one noisy sample to the next, with a scheduler whose timesteps are set.

    Args:
        scheduler: one that :func:`check_scheduler` lets pass.
        channels: of an image; what the model predicts beyond them is a learned variance.
        predicted: channels that it predicts.
        eta: how much noise DDIM adds.
        generator: one, or one for each image.
        guided: whether there will be gradients of a classifier.

    Raises:
        ValueError: if the scheduler cannot do this.
    """

    def __init__(
        self, scheduler: Any, channels: int, predicted: int, eta: float, generator: Any, guided: bool = False
    ) -> None:
        self._scheduler = scheduler
        self._channels = channels
        self._clips = guided and scheduler.config.get("clip_sample") and not isinstance(scheduler, DDPM)
        # The original clamps the image ahead of the gradient, which may lead out of the range again.
        changes = {"clip_sample": False} if self._clips else {}
        self._own: Any = respaced(scheduler, **changes) if is_respaced(scheduler) else scheduler
        known = inspect.signature(scheduler.step).parameters
        # The noise of the clamped image takes the place of the predicted one, as in the original.
        given = {"eta": eta, "use_clipped_model_output": True, "generator": generator}
        self._more = {name: value for name, value in given.items() if name in known}
        # Schedulers keep options of others in their configuration, so that the class must be asked.
        self._learned = isinstance(scheduler, DDPM) and scheduler.config["variance_type"] in _LEARNED
        if self._learned and predicted != 2 * channels:
            raise ValueError(
                f"{type(scheduler).__name__} takes a learned variance (variance_type="
                f"{scheduler.config['variance_type']!r}), which this model does not predict: "
                "`DDPMScheduler.from_config(pipe.scheduler.config, variance_type='fixed_small')`."
            )
        if guided and scheduler.config.get("prediction_type", "epsilon") != "epsilon":
            raise ValueError("Classifier guidance is for models that predict noise: prediction_type='epsilon'.")

    def next(
        self,
        output: Float[Tensor, "images outputs height width"],
        step: int,
        sample: Float[Tensor, "images channels height width"],
        gradient: Float[Tensor, "images channels height width"] | None = None,
    ) -> Float[Tensor, "images channels height width"]:
        """The sample at the next, lower noise level.

        Args:
            output: what the denoiser returned: the noise and, if it learned that, the variance.
            step: number of the present step, from 0.
            sample: the present sample.
            gradient: of the class's logarithmic probability, times its scale.
        """
        timestep: Any = self._scheduler.timesteps[step]
        if gradient is not None and not isinstance(self._scheduler, DDPM):
            output = self._with_score(output[:, : self._channels], timestep, sample, gradient)
        index = timestep if self._own is self._scheduler else len(self._scheduler.timesteps) - 1 - step
        taken = output if self._learned else output[:, : self._channels]
        moved: Tensor = self._own.step(taken, index, sample, **self._more, return_dict=False)[0]
        if gradient is not None and isinstance(self._scheduler, DDPM):
            moved = moved + step_variance(self._own, int(index), output[:, self._channels :]) * gradient
        return moved

    def _with_score(self, noise: Tensor, timestep: Any, sample: Tensor, gradient: Tensor) -> Tensor:
        """``e − √(1 − ᾱₜ)·∇ log p(y | xₜ)``, with e that of the clamped image where the scheduler clamps."""
        share = noise_share(self._scheduler.alphas_cumprod, float(timestep))
        if self._clips:
            signal, limit = (1 - share**2) ** 0.5, self._scheduler.config.get("clip_sample_range", 1.0)
            image = ((sample - share * noise) / signal).clamp(-limit, limit)
            noise = (sample - signal * image) / share
        return noise - share * gradient
