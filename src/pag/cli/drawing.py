"""Drawing with a progress bar: what `generate` and `compare` have in common."""

from collections.abc import Iterator, Sequence
from typing import Any

from pag.cli import console
from pag.generate import Picture
from pag.generate.sampler import Drawn, draw

__all__ = ["draw_with_bar"]


def draw_with_bar(pipe: Any, pictures: Sequence[Picture], batch: int) -> Iterator[Drawn]:
    """`draw`, with a bar on the terminal and a line for each image that a safety checker blanked."""
    with console.progress(len(pictures)) as bar:
        task = bar.task_ids[0]
        for done, drawn in enumerate(draw(pipe, pictures, batch, lambda images: bar.advance(task, images)), 1):
            bar.update(task, done=done)
            if drawn.blanked:
                console.notice(f"seed {drawn.picture.seed}: the model's safety checker made this image black", "yellow")
            yield drawn
