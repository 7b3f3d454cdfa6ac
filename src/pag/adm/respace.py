"""Schedules of few steps, as the process of those steps alone (arXiv 2102.09672, section 4)."""

import inspect
from itertools import pairwise
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_parallel import DDIMParallelScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm_parallel import DDPMParallelScheduler
from torch import Tensor

__all__ = ["DDPM", "is_respaced", "respaced", "set_timesteps", "step_variance"]

DDPM = (DDPMScheduler, DDPMParallelScheduler)
DDIM = (DDIMScheduler, DDIMParallelScheduler)


def is_respaced(scheduler: Any) -> bool:
    """Whether a scheduler is one of those that ADM was published with: DDPM and DDIM."""
    return isinstance(scheduler, DDPM + DDIM)


def set_timesteps(scheduler: Any, steps: int, timesteps: list[int] | None, device: torch.device) -> Any:
    """Prepare a scheduler for a run.

    Args:
        scheduler: any.
        steps: how many steps; if there are timesteps, it does not matter.
        timesteps: the timesteps themselves, falling.
        device: where they go.

    Returns:
        The timesteps that the model is called with.

    Raises:
        ValueError: if the scheduler does not take them.
    """
    if timesteps is None:
        scheduler.set_timesteps(steps, device=device)
        return scheduler.timesteps
    if "timesteps" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(timesteps=timesteps, device=device)
        return scheduler.timesteps
    if not is_respaced(scheduler):
        raise ValueError(f"{type(scheduler).__name__} takes no timesteps of your own: pass num_inference_steps.")
    if (
        not timesteps
        or timesteps[0] >= len(scheduler)
        or timesteps[-1] < 0
        or any(a <= b for a, b in pairwise(timesteps))
    ):
        raise ValueError(f"timesteps must fall, from below {len(scheduler)} to 0 or more, but are {timesteps}.")
    scheduler.set_timesteps(len(timesteps), device=device)
    scheduler.timesteps = torch.tensor(timesteps, device=device)
    return scheduler.timesteps


def respaced(scheduler: Any, **changes: Any) -> Any:
    """The scheduler of the process of the present timesteps alone, which it counts from 0.

    A process of the same noise levels ends where the last of them does. diffusers' schedulers step through the whole
    process instead, and miss that if the steps are not those that they expect: DDIM subtracts the same number from each
    timestep, also where they are not evenly spaced, and DDPM adds noise in the last step if that is not timestep 0.

    Args:
        scheduler: one that :func:`is_respaced` accepts, with its timesteps set.
        **changes: settings to change.
    """
    times = scheduler.timesteps.flip(0).cpu()
    count = len(times)
    own: Any = type(scheduler).from_config(
        scheduler.config,
        num_train_timesteps=count,
        trained_betas=[0.5] * count,  # the levels are set below
        timestep_spacing="leading",
        steps_offset=0,
        rescale_betas_zero_snr=False,
        **changes,
    )
    own.set_timesteps(count)
    own.alphas_cumprod = scheduler.alphas_cumprod.cpu()[times]
    if hasattr(scheduler, "final_alpha_cumprod"):
        own.final_alpha_cumprod = scheduler.final_alpha_cumprod
    return own


def step_variance(own: Any, index: int, learned: Tensor) -> Tensor:
    """The variance of a step of DDPM, which classifier guidance moves the mean by.

    Args:
        own: a DDPM scheduler of the present timesteps alone.
        index: of the step, 0 for the last.
        learned: what the model predicts of it: where it lies, from the posterior's variance at -1 to β at 1.
    """
    kind = own.config["variance_type"]
    if kind == "learned":
        return learned
    level = own.alphas_cumprod.double()
    before = torch.cat([torch.ones(1, dtype=torch.float64), level[:-1]])
    beta = 1 - level / before
    posterior = beta * (1 - before) / (1 - level)
    # The last step's posterior is certain. Where its logarithm is needed, the one before takes its place.
    least = posterior[max(index, 1)] if len(level) > 1 else beta[0]
    if kind == "learned_range":
        return torch.lerp(least.log().to(learned), beta[index].log().to(learned), (learned + 1) / 2).exp()
    if kind.startswith("fixed_large"):
        return beta[index] if index else least
    return posterior[index]
