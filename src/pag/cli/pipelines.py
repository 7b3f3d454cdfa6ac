"""`pag pipelines`: which of diffusers' pipeline classes can be guided."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from pag.catalog import Entry, catalog
from pag.cli import console
from pag.generate.errors import UserError, nearest_first

__all__ = ["pipelines"]

_STYLES = {"works": "green", "refused": "yellow", "nothing": "dim"}


def pipelines(
    name: Annotated[str, typer.Argument(help="Part of a class name, such as flux.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List the pipelines of diffusers, and whether they can be guided."""
    version, entries = catalog()
    chosen = [entry for entry in entries if name.lower() in entry.pipeline.lower()]
    if not chosen:
        near = nearest_first(name, [entry.pipeline for entry in entries])[:3]
        raise UserError(
            f"no pipeline class of diffusers {version} has {name!r} in its name. Nearest: {', '.join(near)}"
        )
    if as_json:
        print(json.dumps([asdict(entry) for entry in chosen], indent=2))
        return
    out = console.stdout()
    out.print(_table(chosen))
    counts = Counter(entry.verdict for entry in chosen)
    out.print(
        f"diffusers {version}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES if counts[verdict]),
        style="dim",
    )


def _table(entries: list[Entry]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("pipeline", no_wrap=True)
    table.add_column("guidance")
    table.add_column("layers", no_wrap=True)
    table.add_column("drop-in class, or why not", overflow="fold")
    for entry in entries:
        last = entry.drop_in if entry.verdict == "works" else entry.because
        table.add_row(entry.pipeline, f"[{_STYLES[entry.verdict]}]{entry.verdict}[/]", layers_of(entry), last)
    return table


def layers_of(entry: Entry) -> str:
    """The recommended layers, for people."""
    if isinstance(entry.layers, float | int):
        return f"{entry.layers:.0%} deep"
    return ", ".join(entry.layers or ())
