"""`pag info`: what an image was made with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pag.cli import console
from pag.generate import Comparison, Picture
from pag.generate.png import read_settings

__all__ = ["info"]


def info(
    file: Annotated[Path, typer.Argument(metavar="IMAGE.png", help="An image that pag drew.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show an image's settings and the command that draws it again."""
    settings, versions = read_settings(file)
    if as_json:
        record = settings.to_json() | {"made_with": versions, "command": settings.command()}
        print(json.dumps(record, indent=2))
        return
    console.stdout().print(_table(settings, versions))
    console.stdout().print()
    console.stdout().print(console.printable(settings.command()), markup=False, style="bold")


def _table(settings: Picture | Comparison, versions: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in settings.to_json().items():
        if shown := _shown(value):
            table.add_row(name.replace("_", " "), Text(console.printable(shown)))
    table.add_row("made with", Text(console.printable(", ".join(f"{name} {v}" for name, v in versions.items()))))
    return table


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
