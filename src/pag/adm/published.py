"""What the weights of a checkpoint do not tell: settings of the published ones, which are known by their layout."""

from dataclasses import dataclass, fields, replace
from typing import Literal, final

from pag.adm.layout import Layout
from pag.generate.errors import UserError

__all__ = ["PUBLISHED", "UNKNOWN", "Published", "Settings", "settings_of"]

_CLASSES = 1000
_OPTIONS = {
    "image_size": "--image-size",
    "heads": "--heads or --head-channels",
    "order": "--attention-order",
    "schedule": "--noise-schedule",
}


@final
@dataclass(frozen=True)
class Settings:
    """What must be known besides the weights.

    Args:
        image_size: pixels a side.
        heads: number of attention heads of every layer, or
        head_channels: width of every head.
        order: how one projection makes queries, keys and values: of one head after the other (``"legacy"``), or the
            queries of all heads, then the keys, then the values (``"new"``).
        schedule: how noise grows with time.
    """

    image_size: int | None = None
    heads: int | None = None
    head_channels: int | None = None
    order: Literal["legacy", "new"] | None = None
    schedule: Literal["linear", "cosine"] | None = None

    def heads_of(self, channels: int) -> int:
        """Number of heads of an attention layer of that width.

        Raises:
            UserError: the width cannot be divided so.
        """
        each = self.head_channels or channels // (self.heads or 1)
        if not each or channels % each or channels % (self.heads or 1):
            parts = f"heads of {self.head_channels} channels" if self.head_channels else f"{self.heads} heads"
            raise UserError(f"{channels} channels of an attention layer are not divisible into {parts}")
        return channels // each


UNKNOWN = Settings()
"""Nothing is said."""


@final
@dataclass(frozen=True)
class Published:
    """A published architecture: the file names of its checkpoints, what their weights tell, and what they do not."""

    files: tuple[str, ...]
    layout: Layout
    settings: Settings


def _widths(width: int, *multipliers: float) -> tuple[int, ...]:
    return tuple(int(width * multiplier) for multiplier in multipliers)


def _lowest(levels: int, attending: int) -> tuple[bool, ...]:
    return tuple(level >= levels - attending for level in range(levels))


_64 = Layout(192, _widths(192, 1, 2, 3, 4), 3, _lowest(4, 3), classes=_CLASSES)
_128 = Layout(256, _widths(256, 1, 1, 2, 3, 4), 2, _lowest(5, 3), classes=_CLASSES)
_256 = Layout(256, _widths(256, 1, 1, 2, 2, 4, 4), 2, _lowest(6, 3))
_512 = Layout(256, _widths(256, 0.5, 1, 1, 2, 2, 4, 4), 2, _lowest(7, 3), classes=_CLASSES)
_UPSAMPLER = Layout(192, _widths(192, 1, 1, 2, 2, 4, 4), 2, _lowest(6, 3), in_channels=6, classes=_CLASSES)
_256_SETTINGS = Settings(256, head_channels=64, order="legacy", schedule="linear")


def _classifier(size: int, depth: int, *multipliers: float) -> Published:
    layout = Layout(
        128,
        _widths(128, *multipliers),
        depth,
        _lowest(len(multipliers), 3),
        out_channels=_CLASSES,
        classifier=True,
        image_size=size,
    )
    return Published((f"{size}x{size}_classifier.pt",), layout, replace(_256_SETTINGS, image_size=size))


PUBLISHED = (
    Published(("64x64_diffusion.pt",), _64, Settings(64, head_channels=64, order="new", schedule="cosine")),
    Published(("128x128_diffusion.pt",), _128, Settings(128, heads=4, order="legacy", schedule="linear")),
    Published(("256x256_diffusion.pt",), replace(_256, classes=_CLASSES), _256_SETTINGS),
    Published(
        ("256x256_diffusion_uncond.pt", "lsun_bedroom.pt", "lsun_cat.pt", "lsun_horse.pt", "lsun_horse_nodropout.pt"),
        _256,
        _256_SETTINGS,
    ),
    Published(("512x512_diffusion.pt",), _512, replace(_256_SETTINGS, image_size=512)),
    Published(("64_256_upsampler.pt",), _UPSAMPLER, Settings(256, heads=4, order="legacy", schedule="linear")),
    Published(
        ("128_512_upsampler.pt",),
        replace(_UPSAMPLER, attention=_lowest(6, 2)),
        replace(_256_SETTINGS, image_size=512),
    ),
    _classifier(64, 4, 1, 2, 3, 4),
    _classifier(128, 2, 1, 1, 2, 3, 4),
    _classifier(256, 2, 1, 1, 2, 2, 4, 4),
    _classifier(512, 2, 0.5, 1, 1, 2, 2, 4, 4),
)
"""The checkpoints of https://github.com/openai/guided-diffusion, with the flags that its README gives for each."""


def settings_of(layout: Layout, given: Settings = UNKNOWN) -> Settings:
    """The settings of a model: those given, else those of the published model of this layout.

    Raises:
        UserError: some are not known. The message names the options.
    """
    known = next((one.settings for one in PUBLISHED if one.layout == layout), Settings(layout.image_size))
    if given.heads or given.head_channels:
        known = replace(known, heads=None, head_channels=None)
    chosen = {field.name: getattr(given, field.name) or getattr(known, field.name) for field in fields(Settings)}
    settings = Settings(**chosen)
    missing = [option for name, option in _OPTIONS.items() if not chosen[name]]
    if settings.head_channels and not settings.heads:
        missing.remove(_OPTIONS["heads"])
    if layout.classifier and _OPTIONS["schedule"] in missing:
        missing.remove(_OPTIONS["schedule"])  # of the U-Net that it goes with
    if missing:
        raise UserError(
            f"these weights are none of the published ones, and do not tell all: say {', '.join(missing)}, "
            "as the model was trained"
        )
    return settings
