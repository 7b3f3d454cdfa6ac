"""The options that `generate` and `compare` share, and their checks that need no model."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "SPEEDS",
    "AdaptiveScale",
    "Batch",
    "Device",
    "Dtype",
    "GuidanceScale",
    "Height",
    "Layers",
    "LowMemory",
    "Model",
    "Negative",
    "PagScale",
    "PagStart",
    "PagStop",
    "Scheduler",
    "Seed",
    "Speed",
    "Steps",
    "Width",
    "in_range",
    "numbers",
    "one_of",
    "words",
]

SPEEDS = ("exact", "fast")
"""Those of `pag.reuse`, which loads torch."""

GUIDANCE, SAMPLING, RUNNING = "Guidance", "Sampling", "Running"


def in_range(most: float = math.inf) -> Callable[[float | None], float | None]:
    """A check that a number is finite and lies between 0 and `most`."""

    def check(value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and 0 <= value <= most):
            allowed = "a finite number, 0 or more" if most == math.inf else f"a number from 0 to {most:g}"
            raise typer.BadParameter(f"{value:g} is not {allowed}.")
        return value

    return check


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A check that a text is one of some names."""

    def check(value: str) -> str:
        if value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}.")
        return value

    return check


def numbers(text: str | None) -> tuple[float, ...]:
    """`"0,1.5,3"` as scales."""
    try:
        values = tuple(float(word) for word in words(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers like 0,1,2.5.") from None
    for value in values:
        in_range()(value)
    return values


def words(text: str | None) -> tuple[str, ...]:
    """`"m0, d0"` as names."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


Model: TypeAlias = Annotated[
    str,
    typer.Option("--model", "-m", metavar="ID|FOLDER", help="A Stable Diffusion model."),
]
PagScale: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--pag-scale",
        "-s",
        callback=in_range(),
        rich_help_panel=GUIDANCE,
        show_default="recommended",
        help="Strength of PAG; 0 is off.",
    ),
]
GuidanceScale: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--guidance-scale",
        "-g",
        callback=in_range(),
        rich_help_panel=GUIDANCE,
        show_default="recommended",
        help="Strength of CFG; 1 or less is off.",
    ),
]
Layers: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--layers",
        "-l",
        rich_help_panel=GUIDANCE,
        show_default="recommended",
        help="What to perturb: mid, m0, d4, u0.4 … (see `pag layers`).",
    ),
]
AdaptiveScale: TypeAlias = Annotated[
    float,
    typer.Option(
        "--adaptive-scale",
        callback=in_range(),
        rich_help_panel=GUIDANCE,
        show_default=False,
        help="Fall of the PAG scale per timestep, such as 0.003.",
    ),
]
PagStart: TypeAlias = Annotated[
    float,
    typer.Option(
        "--pag-start",
        callback=in_range(1),
        rich_help_panel=GUIDANCE,
        show_default=False,
        help="Progress at which PAG begins: 0 (noise) to 1 (image).",
    ),
]
PagStop: TypeAlias = Annotated[
    float,
    typer.Option(
        "--pag-stop",
        callback=in_range(1),
        rich_help_panel=GUIDANCE,
        show_default=False,
        help="Progress at which PAG ends.",
    ),
]
Speed: TypeAlias = Annotated[
    str,
    typer.Option(
        "--speed",
        callback=one_of(SPEEDS),
        rich_help_panel=GUIDANCE,
        help="exact, or fast: guidance is computed some seven times a run.",
    ),
]
Negative: TypeAlias = Annotated[
    str, typer.Option("--negative", "-n", rich_help_panel=GUIDANCE, help="Negative prompt, used by CFG.")
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**63 - 1, metavar="N", rich_help_panel=SAMPLING, help="Seed of the first image."
    ),
]
Steps: TypeAlias = Annotated[
    int, typer.Option("--steps", min=1, metavar="N", rich_help_panel=SAMPLING, help="Sampling steps.")
]
Scheduler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        rich_help_panel=SAMPLING,
        show_default="the model's own",
        help="ddim, ddpm, dpm++2m, euler, euler-a, heun, unipc …",
    ),
]
Width: TypeAlias = Annotated[
    int | None,
    typer.Option("--width", min=1, metavar="PIXELS", rich_help_panel=SAMPLING, show_default="the model's own", help=""),
]
Height: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--height", min=1, metavar="PIXELS", rich_help_panel=SAMPLING, show_default="the model's own", help=""
    ),
]
Batch: TypeAlias = Annotated[
    int,
    typer.Option(
        "--batch", min=1, metavar="N", rich_help_panel=RUNNING, help="Images at a time; may change the last bit."
    ),
]
LowMemory: TypeAlias = Annotated[
    bool,
    typer.Option("--low-memory", rich_help_panel=RUNNING, help="PAG for little more memory; may change the last bit."),
]
Dtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        rich_help_panel=RUNNING,
        show_default="float32 on a CPU, else float16",
        help="float32, float16 or bfloat16.",
    ),
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", rich_help_panel=RUNNING, show_default="the fastest here", help="cpu, cuda, cuda:1, mps."),
]
