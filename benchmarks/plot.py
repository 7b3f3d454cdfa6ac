"""Line charts as SVG, the same bytes for the same numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, GAP, COLUMNS = 360, 250, 48, 42, 26, 12, 3
COLORS = ("#3f51b5", "#e65100", "#2e7d32", "#ad1457", "#00838f", "#6d4c41")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart.

    Args:
        title: what stands above it.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        series: points by name; each name has the same color in all panels.
        zero: whether the vertical axis begins at zero.
        joined: whether a line joins the points of a series.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, Points]
    zero: bool = True
    joined: bool = True


def svg(panels: Sequence[Panel]) -> str:
    """Charts side by side, at most three, the others in rows below, and one legend at the end."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    columns = min(len(panels), COLUMNS)
    width, below = WIDTH * columns, HEIGHT * math.ceil(len(panels) / columns)
    legend = below + 18 * math.ceil(len(names) / columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {legend + 6}" width="{width}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{width}" height="{legend + 6}" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        place = f"{index % columns * WIDTH} {index // columns * HEIGHT}"
        parts += [f'<g transform="translate({place})">', *_panel(panel, colors), "</g>"]
    for index, name in enumerate(names):
        x, y = LEFT + WIDTH * (index % columns), below + 12 + 18 * (index // columns)
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colors[name]}"/>{_text(x + 10, y, name)}')
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose a range, about five."""
    raw = (high - low or abs(high) or 1) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step for factor in (1, 2, 2.5, 5, 10) if (step := factor * power) >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _panel(panel: Panel, colors: dict[str, str]) -> list[str]:
    points = [point for series in panel.series.values() for point in series]
    across = ticks(min(x for x, _ in points), max(x for x, _ in points))
    up = ticks(0.0 if panel.zero else min(y for _, y in points), max(y for _, y in points))
    right, low = WIDTH - GAP, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        at = LEFT + (x - across[0]) / (across[-1] - across[0]) * (right - LEFT)
        return at, low - (y - up[0]) / (up[-1] - up[0]) * (low - TOP)

    parts = [_text((LEFT + right) / 2, 16, panel.title, "middle", "bold")]
    for tick in up:
        y = place(across[0], tick)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>{_text(LEFT - 5, y + 4, f"{tick:.6g}", "end")}')
    parts += [_text(place(tick, up[0])[0], low + 15, f"{tick:.6g}", "middle") for tick in across]
    parts.append(_text((LEFT + right) / 2, low + 32, panel.x, "middle"))
    parts.append(f'<g transform="rotate(-90 12 {(TOP + low) / 2})">{_text(12, (TOP + low) / 2, panel.y, "middle")}</g>')
    for name, series in panel.series.items():
        placed = [place(x, y) for x, y in sorted(series)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        if panel.joined:
            parts.append(f'<path d="M{path}" fill="none" stroke="{colors[name]}" stroke-width="1.6"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colors[name]}"/>' for x, y in placed]
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
