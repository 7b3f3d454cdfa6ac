"""What an image depends on, as frozen records that survive JSON and a command line unchanged."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Self, TypeVar, cast, final, get_args, get_origin, get_type_hints

from pag.generate.errors import UserError

__all__ = ["EMBEDDED", "EXAMPLES", "Picture", "Sampling", "arguments", "from_json", "shell_command"]

T = TypeVar("T")

EMBEDDED = "embedded"
"""The name of the model that ships with the package."""

EXAMPLES = (
    "pixel art portrait, long blonde hair, purple shirt, green background",
    "pixel art portrait, red mohawk, sunglasses, green shirt, pink background",
    "pixel art portrait, blue hat, beard, white shirt, orange background",
)
"""Prompts that suit the embedded model."""


def _flag(name: str) -> dict[str, str]:
    return {"flag": name}


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw: everything but prompt and seed, and nothing left to the defaults of another version."""

    model: str = field(metadata=_flag("--model"))
    guidance_scale: float = field(metadata=_flag("--guidance-scale"))
    pag_scale: float = field(metadata=_flag("--pag-scale"))
    layers: str = field(metadata=_flag("--layers"))
    steps: int = field(metadata=_flag("--steps"))
    scheduler: str = field(metadata=_flag("--scheduler"))
    width: int = field(metadata=_flag("--width"))
    height: int = field(metadata=_flag("--height"))
    negative: str = field(default="", metadata=_flag("--negative"))
    adaptive_scale: float = field(default=0.0, metadata=_flag("--adaptive-scale"))
    pag_start: float = field(default=0.0, metadata=_flag("--pag-start"))
    pag_stop: float = field(default=1.0, metadata=_flag("--pag-stop"))
    speed: str = field(default="exact", metadata=_flag("--speed"))
    dtype: str = field(default="float32", metadata=_flag("--dtype"))
    device: str = field(default="cpu", metadata=_flag("--device"))


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image."""

    prompt: str
    seed: int = field(metadata=_flag("--seed"))
    sampling: Sampling

    def to_json(self) -> dict[str, Any]:
        """All settings in one flat record."""
        return {"prompt": self.prompt, "seed": self.seed} | asdict(self.sampling)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises UserError."""
        rest = {key: value for key, value in record.items() if key not in ("prompt", "seed")}
        own = {"prompt": record.get("prompt"), "seed": record.get("seed")}
        return from_json(cls, own | {"sampling": from_json(Sampling, rest)})

    def command(self) -> str:
        """The command line that draws this image, and no other."""
        return shell_command("generate", [self.prompt], [*arguments(self), "--num", "1", *arguments(self.sampling)])


def arguments(record: object) -> list[str]:
    """The options that say the same as `record`, less those at a default that no version will change."""
    options: list[str] = []
    for item in fields(cast(Any, record)):
        value = getattr(record, item.name)
        if "flag" in item.metadata and value != item.default:
            options += [item.metadata["flag"], _as_text(value)]
    return options


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_as_text(item) for item in cast(tuple[object, ...], value))
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def shell_command(command: str, prompts: list[str], options: list[str]) -> str:
    """`pag COMMAND PROMPTS OPTIONS`, quoted for a POSIX shell. What looks like an option goes last."""
    dashed = any(prompt.startswith("-") for prompt in prompts)
    words = [*options, "--", *prompts] if dashed else [*prompts, *options]
    return shlex.join(["pag", command, *words])


def from_json(kind: type[T], record: Mapping[str, Any]) -> T:
    """`kind(**record)` for a record out of a file: every name and type is checked. Raises UserError."""
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(cast(Any, kind))}
    if unknown := sorted(set(record) - set(known)):
        raise UserError(f"unknown setting {unknown[0]!r}: it was written by another version of pag")
    values = {name: _checked(item, hints[name], record) for name, item in known.items()}
    return kind(**values)


def _checked(item: "Field[Any]", kind: Any, record: Mapping[str, Any]) -> Any:
    if item.name not in record:
        if item.default is MISSING:
            raise UserError(f"the setting {item.name!r} is missing")
        return item.default
    value = record[item.name]
    if get_origin(kind) is tuple and isinstance(value, list):
        entries = cast(list[object], value)
        return tuple(_one(item.name, get_args(kind)[0], entry) for entry in entries)
    return _one(item.name, kind, value)


def _one(name: str, kind: type[Any], value: object) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"the setting {name!r} should be of type {kind.__name__}, not {value!r:.40}")
    return value
