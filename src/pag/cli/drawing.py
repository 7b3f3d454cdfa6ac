"""Drawing with a progress bar: what `generate` and `compare` have in common."""

from collections.abc import Iterator, Sequence
from typing import Any

from pag.cli import console
from pag.generate import Picture
from pag.generate.sampler import Drawn, draw

__all__ = ["draw_with_bar"]


def draw_with_bar(
    bar: console.Bar, pipe: Any, pictures: Sequence[Picture], batch: int, low_memory: bool
) -> Iterator[Drawn]:
    """`draw`, shown on `bar`, with a line for each image that the model's safety checker blanked."""
    for count, drawn in enumerate(draw(pipe, pictures, batch, bar.advance, low_memory=low_memory), 1):
        bar.finish(count)
        if drawn.blanked:
            bar.notice(f"seed {drawn.picture.seed}: the model's safety checker made this image black", "yellow")
        yield drawn
