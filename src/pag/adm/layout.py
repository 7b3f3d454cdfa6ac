"""The architecture of a guided-diffusion checkpoint, read from the names and shapes of its weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isqrt
from typing import final

from pag.generate.errors import UserError

__all__ = ["Layout", "Shapes", "read_layout"]

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of weights by name."""

_KINDS = {"in_layers.2.weight": "res", "qkv.weight": "attention", "op.weight": "conv", "conv.weight": "conv"}
"""What a member of a block is, by a weight that it has."""


@final
@dataclass(frozen=True)
class Layout:
    """All of an architecture that its weights tell.

    Args:
        model_channels: width of the sinusoidal embedding of the time.
        channels: of each level's residual blocks, finest level first.
        res_blocks: of each level on the way down.
        attention: whether self-attention follows the residual blocks of each level.
        in_channels: of the sample, with those of the small image that an upsampler gets besides.
        out_channels: of the prediction; a classifier's classes.
        classes: of a conditional U-Net.
        scale_shift: whether the time scales and shifts the second norm of a residual block, or is added ahead of it.
        resblock_updown: whether residual blocks change the resolution, or convolutions do.
        classifier: whether it is the half of a U-Net that tells the class of a noisy image.
        image_size: pixels a side, if they are known from a classifier's table of positions.
    """

    model_channels: int
    channels: tuple[int, ...]
    res_blocks: int
    attention: tuple[bool, ...]
    in_channels: int = 3
    out_channels: int = 6
    classes: int | None = None
    scale_shift: bool = True
    resblock_updown: bool = True
    classifier: bool = False
    image_size: int | None = None

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.channels)

    @property
    def upsampler(self) -> bool:
        """Whether the sample is given together with a small image of as many channels."""
        return self.in_channels == 6

    @property
    def learned_variance(self) -> bool:
        """Whether the second half of the output is a variance."""
        return self.out_channels == (self.in_channels if self.upsampler else 2 * self.in_channels)

    def down(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The kinds of the members of ``input_blocks`` behind the first, each with its level."""
        for level, attends in enumerate(self.attention):
            yield from [(level, ("res", "attention") if attends else ("res",))] * self.res_blocks
            if level < self.levels - 1:
                yield level, (self._resampler,)

    def up(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The kinds of the members of ``output_blocks``, each with its level."""
        for level in reversed(range(self.levels)):
            members = ("res", "attention") if self.attention[level] else ("res",)
            yield from [(level, members)] * self.res_blocks
            yield level, (*members, self._resampler) if level else members

    @property
    def _resampler(self) -> str:
        return "res" if self.resblock_updown else "conv"


def read_layout(shapes: Shapes) -> Layout:
    """The layout of a U-Net, or of a classifier of noisy images.

    Raises:
        UserError: they are another model's weights.
    """
    first, time = shapes.get("input_blocks.0.0.weight", ()), shapes.get("time_embed.0.weight", ())
    if len(first) != 4 or len(time) != 2:
        some = ", ".join(sorted(shapes)[:3]) or "none"
        raise UserError(
            f"these are not the weights of a guided-diffusion model, whose names begin with input_blocks.0.0.weight, "
            f"but of another: {some} …"
        )
    down, up = _members(shapes, "input_blocks"), _members(shapes, "output_blocks")
    found = [
        layout
        for levels in ([_levels_up(up)] if up else _levels_down(down))
        if (layout := _layout(shapes, down, levels, not up)) and _agrees(shapes, layout, down, up)
    ]
    if not found:
        raise UserError("these weights are named as those of a guided-diffusion model, but no model has such blocks")
    if len(found) > 1:
        raise UserError(f"these weights may be of a model of {' or '.join(str(one.levels) for one in found)} levels")
    return found[0]


def _members(shapes: Shapes, part: str) -> list[tuple[str, ...]]:
    """The kinds of the members of each block; the first of ``input_blocks`` has none."""
    names = {name.split(".", 3)[1] for name in shapes if name.startswith(f"{part}.")}
    return [tuple(_kinds(shapes, f"{part}.{index}")) for index in range(len(names))]


def _kinds(shapes: Shapes, block: str) -> Iterator[str]:
    for index in count():
        kinds = [kind for name, kind in _KINDS.items() if f"{block}.{index}.{name}" in shapes]
        if not kinds:
            return
        yield kinds[0]


def _levels_up(up: Sequence[tuple[str, ...]]) -> int:
    return 1 + sum(len(members) > 1 and members[-1] != "attention" for members in up)


def _levels_down(down: Sequence[tuple[str, ...]]) -> list[int]:
    """How many levels a classifier may have: its residual blocks do not tell which of them go down."""
    if convs := down.count(("conv",)):
        return [convs + 1]
    return [levels for levels in range(1, len(down) // 2 + 1) if len(down) % levels == 0]


def _layout(shapes: Shapes, down: Sequence[tuple[str, ...]], levels: int, classifier: bool) -> Layout | None:
    each = len(down) // levels
    firsts = [1 + level * each for level in range(levels)]
    outs = [shapes.get(f"input_blocks.{first}.0.out_layers.3.weight", ()) for first in firsts]
    time = shapes.get("input_blocks.1.0.emb_layers.1.weight", ())
    if each < 2 or len(down) % levels or not all(outs) or not time:
        return None
    classes = shapes.get("label_emb.weight")
    last = "out.2.c_proj.weight" if classifier else "out.2.weight"
    return Layout(
        model_channels=shapes["time_embed.0.weight"][1],
        channels=tuple(out[0] for out in outs),
        res_blocks=each - 1,
        attention=tuple("attention" in down[first] for first in firsts),
        in_channels=shapes["input_blocks.0.0.weight"][1],
        out_channels=(shapes.get(last) or (0,))[0],
        classes=classes[0] if classes else None,
        scale_shift=time[0] == 2 * outs[0][0],
        resblock_updown=("conv",) not in down,
        classifier=classifier,
        image_size=_side(shapes) * 2 ** (levels - 1) if classifier else None,
    )


def _side(shapes: Shapes) -> int:
    if not (positions := shapes.get("out.2.positional_embedding")):
        raise UserError(
            "this classifier has no table of positions (out.2.positional_embedding), so that it does not pool by "
            "attention as the published ones do; others are not supported"
        )
    return isqrt(positions[-1] - 1)


def _agrees(shapes: Shapes, layout: Layout, down: Sequence[tuple[str, ...]], up: Sequence[tuple[str, ...]]) -> bool:
    expected = list(layout.down())
    widths = [shapes.get(f"input_blocks.{index}.0.out_layers.3.weight", ()) for index in range(1, len(down))]
    return (
        down[1:] == [members for _, members in expected]
        and (not up or list(up) == [members for _, members in layout.up()])
        and all(
            not width or width[0] == layout.channels[level] for width, (level, _) in zip(widths, expected, strict=True)
        )
    )
