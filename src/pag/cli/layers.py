"""`pag layers`: the self-attention layers of a model by all their names, and what perturbing each costs."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, final

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from pag.cli import console
from pag.generate.errors import mendable
from pag.generate.settings import EMBEDDED

__all__ = ["layers"]


@final
@dataclass(frozen=True)
class Row:
    """One layer. `extra` is what guidance adds to a plain forward pass, and to the two of classifier-free guidance."""

    block: str
    authors: str
    comfyui: str
    original: str
    diffusers: str
    path: str
    tokens: int
    height: int | None
    width: int | None
    heads: int
    extra: float
    extra_with_cfg: float
    recommended: bool


def layers(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID|FOLDER|CLASS",
            help="Only its configuration is read. A class of diffusers, such as FluxTransformer2DModel, stands for its "
            "default one.",
        ),
    ] = EMBEDDED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List a model's layers by every name, and what each costs.

    These are its self-attention layers, which `--layers` chooses from.
    """
    with console.quiet(), console.waiting(f"reading the model {model}"):
        network = _network(model)
        rows = _rows(network)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    out = console.stdout()
    unlimited = out.options.update(max_width=1000)
    wide = out.measure(_table(model, rows, True), options=unlimited).maximum <= out.width
    out.print(_table(model, rows, wide))
    with console.quiet(), console.waiting("counting operations"):
        lines = _legend(rows, wide, _steps(network))
    out.print(lines, style="dim")


def _network(model: str) -> Any:
    from pag.generate.models import load_denoiser

    return load_denoiser(model)


def _rows(network: Any) -> list[Row]:
    import pag

    sites = pag.sites(network)
    with mendable(f"cannot count the operations of {type(network).__name__}", Exception):
        costs = pag.layer_costs(network)
    return [
        Row(
            cost.site.block,
            cost.site.authors,
            cost.site.comfy,
            cost.site.original,
            _diffusers_name(cost.site, sites),
            cost.site.path,
            cost.tokens,
            *(cost.resolution or (None, None)),
            cost.site.heads,
            cost.extra,
            cost.extra_with_cfg,
            cost.recommended,
        )
        for cost in costs
    ]


def _diffusers_name(site: Any, sites: Any) -> str:
    """The shortest opening of the module path that means this layer alone."""
    parts = site.path.split(".")
    openings = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    alone = next(name for name in openings if _owners(name, sites) == [site])
    return "mid" if alone == "mid_block" else alone


def _owners(opening: str, sites: Any) -> list[Any]:
    return [site for site in sites if f"{site.path}.".startswith(f"{opening}.")]


def _table(model: str, rows: list[Row], wide: bool) -> Table:
    table = Table(
        title=Text(f"Self-attention layers of {model}"), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    short = {"block": "block", "authors": "authors", "comfyui": "ComfyUI", "original": "original"}
    used = [name for name in short if any(getattr(row, name) for row in rows)]
    for name in (*(short[name] for name in used), "diffusers", *(["full path"] if wide else [])):
        table.add_column(name, no_wrap=True)
    for name in ("size", *(["heads"] if wide else []), "alone", "with CFG"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        names = (*(getattr(row, name) or "-" for name in used), row.diffusers, *([row.path] if wide else []))
        size = f"{row.height}x{row.width}" if row.height else f"{row.tokens}"
        style = "bold" if row.recommended else ""
        heads = [str(row.heads)] if wide else []
        table.add_row(*names, size, *heads, f"{row.extra:+.1%}", f"{row.extra_with_cfg:+.1%}", style=style)
    return table


def _steps(network: Any) -> str:
    """What a step costs at the recommended layers."""
    import pag

    alone, both = pag.cost(network, cfg=False), pag.cost(network)
    above = max(one.executed / one.floor for one in (alone, both)) - 1
    least = "the least that exact arithmetic allows" if above < 0.005 else f"{above:.1%} above the least possible"
    return (
        f"A step then takes {alone.executed:.2f} forward passes, and {both.executed:.2f} with CFG: {least}.\n"
        f"Without sharing rows: {alone.rows} and {both.rows}. Without PAG: 1 and 2."
    )


def _legend(rows: list[Row], wide: bool, steps: str) -> str:
    lines = [
        "alone: what PAG there adds to a plain forward pass.",
        "with CFG: what it adds to the two of classifier-free guidance in one call.",
        "Counted, not timed; where no rows are shared, +100% alone and +50% with CFG.",
    ]
    if best := ", ".join(row.block or row.original or row.authors or row.diffusers for row in rows if row.recommended):
        lines += [f"Recommended, and what you get without choosing: {best}.", steps]
    if not wide:
        lines += [f"A wider terminal, or --json, shows the full paths, such as {rows[0].path}."]
    return "\n".join(lines)
