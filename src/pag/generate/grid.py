"""A labelled grid of images, clean enough for a README."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Grid", "Label", "draw_grid", "enlarge"]

INK, GREY, PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)
"""Near-black, mid-grey, white: contrast 17.7 and 4.8 to 1 on white."""

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@final
@dataclass(frozen=True)
class Label:
    """A line of text, and under it a smaller grey one."""

    text: str
    detail: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """`cells[row][column]` with a label for each column (above) and each row (left)."""

    columns: Sequence[Label]
    rows: Sequence[Label]
    cells: Sequence[Sequence[Image.Image]]
    title: str = ""
    caption: str = ""


@final
@dataclass(frozen=True)
class _Metrics:
    """All lengths in pixels, in proportion to the width of a cell."""

    cell_width: int
    cell_height: int

    @property
    def text(self) -> int:
        return max(13, round(self.cell_width * 0.085))

    @property
    def small(self) -> int:
        return max(11, round(self.text * 0.82))

    @property
    def gap(self) -> int:
        return max(4, self.cell_width // 32)

    @property
    def margin(self) -> int:
        return max(16, self.cell_width // 8)

    @property
    def row_label(self) -> int:
        return max(120, round(self.cell_width * 0.8))


def enlarge(image: Image.Image, width: int) -> Image.Image:
    """`image` at `width` pixels. Up to 32 pixels keep their squares, more are resampled."""
    height = round(image.height * width / image.width)
    tiny = image.width <= 32 and width % image.width == 0
    return image.resize((width, height), Image.Resampling.NEAREST if tiny else Image.Resampling.LANCZOS)


def draw_grid(grid: Grid, cell: int = 256) -> Image.Image:
    """Draw `grid` with cells `cell` pixels wide."""
    cells = [[enlarge(image, cell) for image in row] for row in grid.cells]
    m = _Metrics(cell, cells[0][0].height)
    left = m.margin + _row_label_width(grid, m)
    title = _wrap(grid.title, _font(m.text), len(grid.columns) * (cell + m.gap))
    top = m.margin + len(title) * _line(m.text) + (m.gap * 2 if title else 0)
    heads = [_lines(label, m, cell) for label in grid.columns]
    body = top + max(_height(lines) for lines in heads) + m.gap
    width = left + len(grid.columns) * (cell + m.gap) - m.gap + m.margin
    bottom = body + len(cells) * (m.cell_height + m.gap) - m.gap
    footer = _wrap(grid.caption, _font(m.small), width - left - m.margin)
    height = bottom + (m.gap * 2 + len(footer) * _line(m.small) if footer else 0) + m.margin
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (left, m.margin), [(line, m.text, INK) for line in title])
    for column, lines in enumerate(heads):
        x = left + column * (cell + m.gap)
        _write(pen, (x + cell // 2, top), lines, anchor="ma")
    for row, (label, images) in enumerate(zip(grid.rows, cells, strict=True)):
        y = body + row * (m.cell_height + m.gap)
        lines = _lines(label, m, m.row_label)
        _write(pen, (left - m.gap * 2, y + (m.cell_height - _height(lines)) // 2), lines, anchor="ra")
        for column, image in enumerate(images):
            sheet.paste(image, (left + column * (cell + m.gap), y))
    _write(pen, (left, bottom + m.gap * 2), [(line, m.small, GREY) for line in footer])
    return sheet


_Line: TypeAlias = tuple[str, int, tuple[int, int, int]]


def _lines(label: Label, m: _Metrics, width: int) -> list[_Line]:
    """The wrapped lines of `label`, each with its size and colour."""
    text = [(line, m.text, INK) for line in _wrap(label.text, _font(m.text), width)]
    return text + [(line, m.small, GREY) for line in _wrap(label.detail, _font(m.small), width)]


def _row_label_width(grid: Grid, m: _Metrics) -> int:
    """What the widest row label needs, the gap to the images included; nothing where no row has a label."""
    lines = [line for label in grid.rows for line in _lines(label, m, m.row_label)]
    return max((round(_font(size).getlength(text)) for text, size, _ in lines), default=-2 * m.gap) + 2 * m.gap


def _write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[_Line], anchor: str = "la") -> None:
    x, y = corner
    for text, size, colour in lines:
        pen.text((x, y), text, fill=colour, font=_font(size), anchor=anchor)
        y += _line(size)


def _height(lines: Sequence[_Line]) -> int:
    return sum(_line(size) for _, size, _ in lines)


def _line(size: int) -> int:
    return round(size * 1.3)


def _font(size: int) -> Font:
    """Pillow's own font (Aileron): no file to ship, the same on every machine."""
    return ImageFont.load_default(size)


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """`text` as lines of at most `width` pixels, broken at spaces; a longer word is broken anywhere."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += _pieces(word, font, width)
    return lines


def _pieces(word: str, font: Font, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
