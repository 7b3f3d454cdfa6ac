"""`pag generate`: images of one prompt."""

from pathlib import Path
from typing import Annotated

import typer

from pag.cli import console
from pag.cli.options import (
    AdaptiveScale,
    Batch,
    Device,
    Dtype,
    GuidanceScale,
    Height,
    Layers,
    LowMemory,
    Model,
    Negative,
    PagScale,
    PagStart,
    PagStop,
    Scheduler,
    Seed,
    Speed,
    Steps,
    Width,
)
from pag.cli.request import Request
from pag.generate import Picture
from pag.generate.png import output_folder, save
from pag.generate.settings import EMBEDDED

__all__ = ["generate"]


def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw; "" draws without a prompt.', show_default=False)],
    model: Model = EMBEDDED,
    num: Annotated[int, typer.Option("--num", min=1, metavar="N", help="How many images; seeds count up.")] = 4,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Files of the same name are replaced.")
    ] = Path("images"),
    pag_scale: PagScale = None,
    guidance_scale: GuidanceScale = None,
    layers: Layers = None,
    negative: Negative = "",
    adaptive_scale: AdaptiveScale = 0.0,
    pag_start: PagStart = 0.0,
    pag_stop: PagStop = 1.0,
    speed: Speed = "exact",
    steps: Steps = 25,
    seed: Seed = 0,
    scheduler: Scheduler = None,
    width: Width = None,
    height: Height = None,
    batch: Batch = 1,
    low_memory: LowMemory = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Draw images of a prompt.

    A file is named by its seed and carries its settings: `pag info FILE` shows
    them. An image depends on its settings and its seed, not on how many are drawn.
    """
    request = Request(
        model=model,
        guidance_scale=guidance_scale,
        pag_scale=pag_scale,
        layers=layers,
        steps=steps,
        scheduler=scheduler,
        width=width,
        height=height,
        negative=negative,
        adaptive_scale=adaptive_scale,
        pag_start=pag_start,
        pag_stop=pag_stop,
        speed=speed,
        dtype=dtype,
        device=device,
    )
    with output_folder(out) as folder, console.quiet():
        from pag.cli.drawing import draw_with_bar

        pipe, sampling = request.open()
        pictures = [Picture(prompt=prompt, seed=seed + index, sampling=sampling) for index in range(num)]
        with console.Bar(num) as bar:
            for drawn in draw_with_bar(bar, pipe, pictures, batch, low_memory):
                path = folder / f"seed-{drawn.picture.seed:06}.png"
                save(drawn.image, path, drawn.picture)
                bar.result(str(path))
