"""The commands, and the one place where a failure becomes a line on stderr and an exit code."""

import sys
from typing import Annotated, Any, cast, final

import typer
from typer.core import TyperGroup

from pag.cli.compare import compare
from pag.cli.console import notice
from pag.cli.generate import generate
from pag.cli.info import info
from pag.cli.layers import layers
from pag.generate import UserError

__all__ = ["app"]

BAD_REQUEST, INTERRUPTED = 2, 130

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""What typer raises for a bad command line; its home differs between versions of typer."""

EXAMPLES = """\b[bold]Examples[/bold]
  pag generate "cartoon portrait, red hair, sunglasses"
  pag info images/seed-000000.png
  pag compare "pixel art portrait, green hat" --scales 0,1,2,4
  pag layers --json
"""


@final
class Program(TyperGroup):
    """A group of commands that fails in one line."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run the command line; in standalone mode, exit with 0, 2 (a request to mend) or 130 (Ctrl-C)."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **options)
        try:
            code = super().main(*args, standalone_mode=False, **options)
        except (KeyboardInterrupt, typer.Abort):
            notice("interrupted", "yellow")
            code = INTERRUPTED
        except UserError as error:
            code = _fail(str(error))
        except USAGE_ERROR as error:
            code = _fail(_usage(error))
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    notice(f"error: {' '.join(message.split())}", "red")
    return BAD_REQUEST


def _usage(error: Any) -> str:
    where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    return f"{error.format_message()}{where}"


app = typer.Typer(
    name="pag",
    cls=Program,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EXAMPLES,
)
for command in (generate, compare, layers, info):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        import pag

        print(f"pag {pag.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Perturbed-Attention Guidance for diffusion models: better images, no training."""
    if context.invoked_subcommand is None:
        print(context.get_help())
