"""Short names for diffusers' schedulers, and swapping one for another."""

import re
from collections.abc import Sequence
from typing import Any

from pag.generate.errors import UserError, mendable, nearest_first

__all__ = ["scheduler_name", "scheduler_names", "seed_scheduler", "use_scheduler"]


FILLER = re.compile(r"Scheduler$|Discrete")
"""Words in class names that nobody says."""

USUAL = {
    "DPMSolverMultistep": "dpm++2m",
    "DPMSolverSinglestep": "dpm++2s",
    "DPMSolverSDE": "dpm++sde",
    "EulerAncestral": "euler-a",
    "KDPM2": "dpm2",
    "KDPM2Ancestral": "dpm2-a",
    "UniPCMultistep": "unipc",
    "DEISMultistep": "deis",
    "EDMEuler": "edm-euler",
}
"""What people say instead of the class name."""


def scheduler_name(scheduler_class: type[Any]) -> str:
    """`DDIMScheduler` is "ddim", `EulerAncestralDiscreteScheduler` is "euler-a"."""
    core = FILLER.sub("", scheduler_class.__name__)
    return USUAL.get(core) or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", core).lower()


def scheduler_names(scheduler: Any) -> list[str]:
    """The names of the schedulers that can stand in for `scheduler`."""
    return sorted(_compatible(scheduler))


def use_scheduler(pipe: Any, name: str) -> None:
    """Give `pipe` the scheduler `name` (a short name or a class name). Raises UserError."""
    classes = _compatible(pipe.scheduler)
    by_any_name = {_plain(key): found for short, found in classes.items() for key in (short, found.__name__)}
    chosen = by_any_name.get(_plain(name)) or by_any_name.get(_plain(name + "Scheduler"))
    if chosen is None:
        possible = ", ".join(nearest_first(name, sorted(classes)))
        raise UserError(f"unknown scheduler {name!r}. There is: {possible}")
    if chosen is not type(pipe.scheduler):
        with mendable(f"the scheduler {name!r} cannot run this model", ImportError, ValueError, NotImplementedError):
            pipe.scheduler = chosen.from_config(pipe.scheduler.config)


def seed_scheduler(scheduler: Any, seeds: Sequence[int]) -> None:
    """Tell the seeds of the images to a scheduler that draws its noise itself, without the generators."""
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = list(seeds)


def _compatible(scheduler: Any) -> dict[str, type[Any]]:
    return {scheduler_name(found): found for found in (type(scheduler), *scheduler.compatibles)}


def _plain(name: str) -> str:
    """Spelling aside: "DPM++ 2M", "dpm++2m" and "dpm_2m" are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
