"""What is printed: results to stdout, everything else to stderr, and no other library's chatter."""

import logging
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Self, final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Bar", "notice", "printable", "quiet", "stderr", "stdout", "waiting"]

PIPE_WIDTH = 160


def stdout() -> Console:
    """For results. Made anew each time, since tests and notebooks exchange `sys.stdout`.

    Where it is no terminal, lines may be long: they are read by a program, or by a person with a pager.
    """
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def stderr() -> Console:
    """For progress, notices and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def notice(text: str, style: str = "") -> None:
    """Print one line to stderr."""
    stderr().print(printable(text), style=style, markup=False)


def printable(text: str) -> str:
    """`text` without control characters: a file from elsewhere must not drive the terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


@contextmanager
def waiting(what: str) -> Generator[Callable[[str], None], None, None]:
    """Show on a terminal that `what` is going on; what is yielded tells of something else."""
    with stderr().status(escape(what)) as status:
        yield lambda now: status.update(escape(now))


@final
class Bar:
    """A bar over images that moves with every sampling step, and lines that appear above it."""

    def __init__(self, images: int) -> None:
        out = stderr()
        columns = (
            TextColumn("drawing"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[done]}/{task.total:.0f}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        # Standard output is left alone: it may be a pipe, which the bar's redirection would send to the terminal.
        self._bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal, redirect_stdout=False)
        self._task = self._bar.add_task("", total=images, done=0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, images: float) -> None:
        """Move by that many images' worth of work."""
        self._bar.advance(self._task, images)

    def finish(self, count: int) -> None:
        """Say that `count` images are complete."""
        self._bar.update(self._task, done=count)

    def result(self, text: str) -> None:
        """Print a line of the command's output; on a terminal above the bar."""
        shared = sys.stdout.isatty() and not self._bar.disable
        (self._bar.console if shared else stdout()).print(printable(text), markup=False)

    def notice(self, text: str, style: str = "") -> None:
        """Print a line that is no output; on a terminal above the bar."""
        self._bar.console.print(printable(text), style=style, markup=False)


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Keep warnings, log lines and progress bars of the libraries underneath off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _hide_bars()
            yield
    finally:
        logging.disable(logging.NOTSET)


def _hide_bars() -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
