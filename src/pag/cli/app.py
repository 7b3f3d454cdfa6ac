"""The commands, and the one place where a failure becomes a line on stderr and an exit code."""

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, cast, final

import typer
from typer.core import TyperGroup

from pag.cli.compare import compare
from pag.cli.console import notice
from pag.cli.convert import convert
from pag.cli.generate import generate
from pag.cli.info import info
from pag.cli.layers import layers
from pag.cli.pipelines import pipelines
from pag.cli.sample import sample
from pag.generate import UserError

__all__ = ["app"]

BAD_REQUEST, INTERRUPTED = 2, 130

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""What typer raises for a bad command line; its home differs between versions of typer."""

EXAMPLES = """\b[bold]Examples[/bold]
  pag generate "pixel art portrait, red hair, sunglasses"
  pag compare "pixel art portrait, green hat" --scales 0,1,2,4
"""


@final
class Program(TyperGroup):
    """A group of commands that fails in one line."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run the command line; in standalone mode, exit with 0, 2 (a request to mend) or 130 (Ctrl-C)."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **options)
        code: Any = None
        with interruptions() as interrupted:
            try:
                code = super().main(*args, standalone_mode=False, **options)
            except UserError as error:
                code = _fail(str(error))
            except USAGE_ERROR as error:
                code = _fail(_usage(error))
            except (KeyboardInterrupt, typer.Abort):
                code = INTERRUPTED
            except BaseException:
                if not interrupted():
                    raise
            if interrupted():
                code = INTERRUPTED
        if code == INTERRUPTED:
            notice("interrupted", "yellow")
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def interruptions() -> Generator[Callable[[], bool], None, None]:
    """Tell whether Ctrl-C was pressed: a `KeyboardInterrupt` inside an import can surface as any exception."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread()
    if not ours or before is not signal.default_int_handler:  # ignored, as in a shell's background, or set by another
        yield lambda: False
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


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
for command in (generate, compare, layers, pipelines, info):
    app.command()(command)
app.add_typer(convert, name="convert")
app.add_typer(sample, name="sample")


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
