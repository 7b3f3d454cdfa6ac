"""From settings to images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, final

import torch
from PIL import Image

from pag.generate.errors import mendable
from pag.generate.schedulers import seed_scheduler
from pag.generate.settings import Picture

__all__ = ["Drawn", "draw"]

OUT_OF_MEMORY = "out of memory, of which fewer images at a time, smaller ones and `--low-memory` need less"


@final
@dataclass(frozen=True)
class Drawn:
    """An image and its settings."""

    picture: Picture
    image: Image.Image
    blanked: bool
    """Whether the model's own safety checker replaced the image by a black one."""


def draw(
    pipe: Any,
    pictures: Sequence[Picture],
    batch: int = 1,
    on_step: Callable[[float], None] | None = None,
    *,
    low_memory: bool = False,
) -> Iterator[Drawn]:
    """Draw `pictures` in order. The scheduler of `pipe` must be theirs.

    Args:
        pipe: a `StableDiffusionPAGPipeline`.
        pictures: what to draw; neighbours with the same `sampling` may share a call of the pipeline.
        batch: images to a call. Every image has a generator of its own, so this changes at most the rounding.
        on_step: called after every sampling step with the number of images' worth of work that it did.
        low_memory: run perturbed rows after the others. This too changes at most the rounding.

    Raises:
        UserError: the model refuses the settings.
    """
    for group in _batches(pictures, batch):
        seed_scheduler(pipe.scheduler, [picture.seed for picture in group])
        with (
            mendable(OUT_OF_MEMORY, torch.OutOfMemoryError),
            mendable("the model refuses these settings", ValueError),
        ):
            reporter = _reporter(len(group), on_step)
            output = pipe(**_call(group), pag_low_memory=low_memory, callback_on_step_end=reporter)
        flags = output.nsfw_content_detected or [False] * len(group)
        for picture, image, blanked in zip(group, output.images, flags, strict=True):
            yield Drawn(picture, image, blanked)


def _batches(pictures: Sequence[Picture], size: int) -> Iterator[list[Picture]]:
    for _, alike in groupby(pictures, key=lambda picture: picture.sampling):
        members = list(alike)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def _call(group: Sequence[Picture]) -> dict[str, Any]:
    how = group[0].sampling
    return {
        "prompt": [picture.prompt for picture in group],
        "negative_prompt": [how.negative] * len(group) if how.negative else None,
        # On the CPU, so that the noise of a seed is the same on every device.
        "generator": [torch.Generator("cpu").manual_seed(picture.seed) for picture in group],
        "width": how.width,
        "height": how.height,
        "num_inference_steps": how.steps,
        "guidance_scale": how.guidance_scale,
        "pag_scale": how.pag_scale,
        "pag_adaptive_scale": how.adaptive_scale,
        "pag_applied_layers": how.layers,
        "pag_start": how.pag_start,
        "pag_stop": how.pag_stop,
        "pag_speed": how.speed,
    }


def _reporter(images: int, on_step: Callable[[float], None] | None) -> Any:
    def after_step(pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(images / pipe.num_timesteps)  # some schedulers call the network twice for one step
        return tensors

    return after_step
