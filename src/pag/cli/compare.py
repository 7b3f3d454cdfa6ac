"""`pag compare`: the same noise under different guidance, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

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
    numbers,
    words,
)
from pag.cli.request import Request, check_layers
from pag.generate import Comparison, UserError
from pag.generate.grid import Grid, draw_grid
from pag.generate.png import output_folder, save
from pag.generate.settings import EMBEDDED, EXAMPLES

__all__ = ["compare"]

COLUMNS = "Columns (by default: no guidance, PAG, CFG, CFG + PAG)"


def compare(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="One row each; by default some that suit."),
    ] = None,
    model: Model = EMBEDDED,
    num: Annotated[
        int | None,
        typer.Option(
            "--num", min=1, metavar="N", help="Seeds (rows) for each prompt.", show_default="4 for one prompt, else 1"
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE|FOLDER", help="A .png file, or a folder for compare.png; replaced."),
    ] = Path("compare.png"),
    cell: Annotated[
        int, typer.Option("--cell", min=32, max=2048, metavar="PIXELS", help="Width of an image in the grid.")
    ] = 256,
    scales: Annotated[
        str | None, typer.Option("--scales", rich_help_panel=COLUMNS, help="PAG scales, such as 0,1,2,3,5.")
    ] = None,
    sweep_layers: Annotated[
        str | None, typer.Option("--sweep-layers", rich_help_panel=COLUMNS, help="Layers, such as m0,d0,u0.")
    ] = None,
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
    """Draw a labelled grid of guidance on and off, scales or layers.

    Rows are prompts or seeds, columns are ways to guide. All images of a row
    start from the same noise.
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
    if scales and sweep_layers:
        raise UserError("--scales and --sweep-layers both say what the columns are: give one of them")
    file = _file(out)
    rows, names = _rows(prompts, model), words(sweep_layers)
    seeds = num or (4 if len(rows) == 1 else 1)
    strengths = numbers(scales)
    with output_folder(file.parent), console.quiet():
        pipe, sampling = request.open()
        for name in names:
            check_layers(pipe, name)
        comparison = Comparison(
            prompts=rows,
            seed=seed,
            num=seeds,
            scales=strengths,
            sweep_layers=names,
            cell=cell,
            sampling=sampling,
        )
        save(_draw(pipe, comparison, batch, low_memory), file, comparison)
    console.stdout().print(str(file), markup=False)


def _rows(prompts: Sequence[str] | None, model: str) -> tuple[str, ...]:
    if prompts:
        return tuple(prompts)
    if model != EMBEDDED:
        raise UserError("name at least one prompt: only the embedded model brings its own")
    return EXAMPLES


def _file(out: Path) -> Path:
    """`out` if it says that it is a PNG file, else a file in the folder `out`."""
    if out.suffix.lower() != ".png":
        return out / "compare.png"
    if out.is_dir():
        raise UserError(f"--out {out} is a folder, though its name is that of a PNG file")
    return out


def _draw(pipe: Any, comparison: Comparison, batch: int, low_memory: bool) -> Image.Image:
    from pag.cli.drawing import draw_with_bar

    with console.Bar(len(comparison.pictures)) as bar:
        images = [drawn.image for drawn in draw_with_bar(bar, pipe, comparison.pictures, batch, low_memory)]
    count = len(comparison.rows)
    columns = [images[start : start + count] for start in range(0, len(images), count)]
    grid = Grid(
        columns=[label for label, _ in comparison.columns],
        rows=[label for label, _, _ in comparison.rows],
        cells=list(zip(*columns, strict=True)),
        title=comparison.title,
        caption=comparison.caption,
    )
    return draw_grid(grid, comparison.cell)
