"""From what was asked to what will be done: the model is loaded, and every open setting gets its value."""

from dataclasses import dataclass
from typing import Any, final

from pag.cli.console import waiting
from pag.generate import Sampling, UserError
from pag.generate.errors import mendable

__all__ = ["Request"]


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of a command; `None` leaves the choice to the model or the machine."""

    model: str
    guidance_scale: float | None
    pag_scale: float | None
    layers: str | None
    steps: int
    scheduler: str | None
    width: int | None
    height: int | None
    negative: str
    adaptive_scale: float
    pag_start: float
    pag_stop: float
    speed: str
    dtype: str | None
    device: str | None

    def open(self) -> tuple[Any, Sampling]:
        """The pipeline, ready to draw, and the complete settings. Raises UserError."""
        from pag.generate.models import choose_device, choose_dtype, load_pipeline
        from pag.generate.schedulers import use_scheduler

        if self.pag_start >= self.pag_stop:
            raise UserError(f"--pag-start {self.pag_start:g} must be below --pag-stop {self.pag_stop:g}")
        device = choose_device(self.device)
        dtype = choose_dtype(self.dtype, device)
        with waiting(f"loading the model {self.model}"):
            pipe = load_pipeline(self.model, dtype, device)
        if self.scheduler is not None:
            use_scheduler(pipe, self.scheduler)
        sampling = self._complete(pipe, dtype, device)
        check_layers(pipe, sampling.layers)
        return pipe, sampling

    def _complete(self, pipe: Any, dtype: str, device: str) -> Sampling:
        from pag.generate.models import default_size, recommended
        from pag.generate.schedulers import scheduler_name

        default, (width, height) = recommended(self.model), default_size(pipe)
        return Sampling(
            model=self.model,
            guidance_scale=default.guidance_scale if self.guidance_scale is None else self.guidance_scale,
            pag_scale=default.pag_scale if self.pag_scale is None else self.pag_scale,
            layers=default.layers if self.layers is None else self.layers,
            steps=self.steps,
            scheduler=scheduler_name(type(pipe.scheduler)),
            width=_side("--width", self.width or width, pipe.vae_scale_factor),
            height=_side("--height", self.height or height, pipe.vae_scale_factor),
            negative=self.negative,
            adaptive_scale=self.adaptive_scale,
            pag_start=self.pag_start,
            pag_stop=self.pag_stop,
            speed=self.speed,
            dtype=dtype,
            device=device,
        )


def check_layers(pipe: Any, layers: str) -> None:
    """Raise UserError, with the layers that exist, unless `layers` names some."""
    import pag
    from pag.layers import select

    with mendable("unknown layer", ValueError):
        select(pag.sites(pipe), layers)


def _side(option: str, pixels: int, factor: int) -> int:
    if pixels % factor:
        below = pixels // factor * factor
        near = " or ".join(str(size) for size in (below, below + factor) if size)
        raise UserError(f"{option} {pixels} must be a multiple of {factor} for this model, for example {near}")
    return pixels
