"""The samplers of guided-diffusion by name: the schedulers of diffusers that take the same steps."""

from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from pag.generate.schedulers import use_scheduler

__all__ = ["DDIM", "use_sampler"]

DDIM: dict[str, Any] = {
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "clip_sample": True,
}
"""Settings with which diffusers' DDIM takes the steps of the original's."""


def use_sampler(pipe: Any, name: str) -> None:
    """Give `pipe` the scheduler of a sampler.

    Args:
        pipe: an `ADMPipeline`.
        name: "ddim" and "ddpm" are those of guided-diffusion: as many evenly spaced steps, from the first on, as
            `ddim25` has; or as many from the first to the last, as `250` has. Others are those of diffusers, as in
            `pag generate --scheduler`.

    Raises:
        UserError: there is none of that name.
    """
    config: Any = pipe.scheduler.config
    if name.lower() == "ddim":
        pipe.scheduler = DDIMScheduler.from_config(config, **DDIM)
    elif name.lower() == "ddpm":
        learned = pipe.unet.config.out_channels == 2 * pipe.unet.config.in_channels
        variance: dict[str, Any] = {"variance_type": "learned_range"} if learned else {}
        pipe.scheduler = DDPMScheduler.from_config(config, timestep_spacing="linspace", clip_sample=True, **variance)
    else:
        use_scheduler(pipe, name)
