"""Batches of samples: what an image depends on, and the call of the pipeline that makes some of them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pag import guide
from pag.adm.classes import Classes, class_of_seed
from pag.adm.npz import Images, Labels
from pag.generate.errors import UserError, mendable
from pag.generate.sampler import OUT_OF_MEMORY
from pag.generate.schedulers import scheduler_name, seed_scheduler

__all__ = ["Batches", "Samples", "to_bytes"]

COMMENT = 2**16 - 1
"""Bytes that the comment of an archive, where settings are kept, may have."""

SAMPLED = 64
"""Bytes of each tensor that tell whether weights are the same."""


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """Which samples: all that they depend on, but the pipeline. By default those of the PAG paper's Table 1.

    Args:
        num: how many; image i has the seed ``seed + i``, of which its noise and its class are functions.
        seed: of the first image.
        steps: of the sampler.
        eta: how much noise DDIM adds.
        classes: `"none"`, `"random"`, `"balanced"`, labels and names of classes, or `"auto"`: random where there are
            classes.
        pag_scale: s; 0 is off.
        layers: to perturb, in any spelling; `"auto"` are those recommended for the model.
        perturbation: name of the method of guidance.
        classifier_scale: of classifier guidance; 0 is off.
        speed: `"exact"` or `"fast"`.
    """

    num: int = 50_000
    seed: int = 0
    steps: int = 250
    eta: float = 0.0
    classes: Classes = "auto"
    pag_scale: float = 1.0
    layers: str | Sequence[str] = "auto"
    perturbation: str = "identity"
    classifier_scale: float = 0.0
    speed: str = "exact"


@final
class Batches:
    """Samples of a pipeline, some at a time.

    Args:
        pipe: an `ADMPipeline`.
        samples: which samples.
        low_memory: run perturbed rows after the others.
        on_step: called after every step with the number of images' worth of work that it did.

    Attributes:
        shape: of an image: height, width, 3.
        record: all that the images depend on, as JSON has it.

    Raises:
        UserError: the pipeline cannot do this.
    """

    def __init__(
        self, pipe: Any, samples: Samples, low_memory: bool = False, on_step: Callable[[float], None] | None = None
    ) -> None:
        self._pipe = pipe
        self._samples = samples
        self._on_step = on_step
        self._guide: Any = nullcontext()
        if samples.pag_scale > 0:
            with mendable("cannot guide this model so", ValueError, TypeError):
                self._guide = guide(
                    pipe,
                    samples.pag_scale,
                    layers=samples.layers,
                    perturbation=samples.perturbation,
                    speed=None if samples.speed == "exact" else samples.speed,
                    low_memory=low_memory,
                )
        if samples.classifier_scale > 0 and pipe.classifier is None:
            raise UserError(
                "classifier guidance needs a classifier, which this model has none of: leave its scale at 0"
            )
        self._way, self._class = class_of_seed(pipe, samples.classes, samples.classifier_scale > 0)
        size: Any = pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        self.shape = (int(height), int(width), 3)
        self.record = self._record()

    def labels(self, images: range) -> Labels | None:
        """The classes of images, which are numbered from 0."""
        if self._class is None:
            return None
        return np.array([self._class(self._samples.seed + index) for index in images], np.int64)

    def draw(self, images: range, rows: int) -> Images:
        """Images, which are numbered from 0.

        Args:
            images: which.
            rows: how many the pipeline makes; those above what is asked for are dropped. The rounding of an image may
                depend on this number, but on nothing else: not on which others there are, nor on its place.

        Raises:
            UserError: the pipeline refuses.
        """
        asked = len(images)
        images = range(images.start, images.start + max(rows, asked))
        seeds = [self._samples.seed + index for index in images]
        seed_scheduler(self._pipe.scheduler, seeds)
        with (
            mendable(OUT_OF_MEMORY.replace(", smaller ones", ""), torch.OutOfMemoryError),
            mendable("the model refuses these settings", ValueError),
            self._guide,
        ):
            made = to_bytes(self._pipe(**self._call(seeds, self.labels(images), asked)).images)
        if made.shape != (len(seeds), *self.shape):
            raise UserError(f"the model made images of shape {made.shape}, not {(len(seeds), *self.shape)}")
        return made[:asked]

    def _call(self, seeds: Sequence[int], labels: Labels | None, asked: int) -> dict[str, Any]:
        how = self._samples
        call: dict[str, Any] = {
            # On the CPU, so that the noise of a seed is the same on every device.
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "num_inference_steps": how.steps,
            "eta": how.eta,
            "output_type": "pt",
            "callback_on_step_end": self._after_step(asked),
        }
        call |= {"num_images": len(seeds)} if labels is None else {"class_labels": labels.tolist()}
        call |= {"classifier_scale": how.classifier_scale} if how.classifier_scale > 0 else {}
        # The guide around the call does it, which knows every perturbation.
        return call | {"pag_scale": 0.0}

    def _after_step(self, images: int) -> Any:
        def report(pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if self._on_step is not None:
                self._on_step(images / len(pipe.scheduler.timesteps))
            return tensors

        return report

    def _record(self) -> dict[str, Any]:
        how, scheduler = self._samples, self._pipe.scheduler
        guided = how.pag_scale > 0
        settings = {
            "num": how.num,
            "seed": how.seed,
            "steps": how.steps,
            "eta": float(how.eta),
            "classes": self._way,
            "pag_scale": float(how.pag_scale),
            "layers": [site.path for site in self._guide.sites] if guided else [],
            "perturbation": how.perturbation if guided else None,
            "speed": how.speed if guided else None,
            "classifier_scale": float(how.classifier_scale),
            "sampler": scheduler_name(type(scheduler)),
            "dtype": str(self._pipe.unet.dtype).removeprefix("torch."),
            "scheduler": {name: value for name, value in scheduler.config.items() if not name.startswith("_")},
            "weights": _fingerprint(self._pipe),
        }
        text = json.dumps(settings, default=str)
        if len(text) > COMMENT:
            raise UserError("the list of classes is too long to be kept with the images: name each class once")
        return dict[str, Any](json.loads(text))


def to_bytes(images: Float[Tensor, "images channels height width"]) -> Images:
    """Images from 0 to 1 as bytes: images, height, width, 3; grey ones with three equal channels.

    This rounds down, as guided-diffusion does with images from -1 to 1: ``(x + 1)·127.5``. As halves and doubles are
    exact, ``(x/2 + 0.5)·255`` is the same number.
    """
    pixels = (images.float() * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if pixels.shape[-1] == 1:
        pixels = pixels.expand(*pixels.shape[:-1], 3)
    return pixels.cpu().contiguous().numpy()


def _fingerprint(pipe: Any) -> str:
    """Of names, shapes and some of the values: another training, or another model, is told; where it lies is not."""
    digest = hashlib.sha256()
    for part in (pipe.unet, pipe.classifier):
        for name, tensor in [] if part is None else part.state_dict().items():
            values = tensor.detach().flatten()[:SAMPLED].float().cpu().numpy()
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + values.tobytes())
    return digest.hexdigest()[:16]
