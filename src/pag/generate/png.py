"""Settings inside PNG files, and files that appear whole or not at all."""

import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from PIL import Image, PngImagePlugin

from pag import __version__
from pag.generate.comparison import Comparison
from pag.generate.errors import UserError, mendable
from pag.generate.settings import Picture

__all__ = ["output_folder", "read_settings", "save"]

CHUNK = "pag"


def save(image: Image.Image, path: Path, settings: Picture | Comparison) -> None:
    """Write `image` as PNG, its settings as JSON in the text chunk "pag" and as prose in "parameters"."""
    text = PngImagePlugin.PngInfo()
    text.add_text(CHUNK, json.dumps(settings.to_json() | {"made_with": _versions()}, ensure_ascii=False))
    text.add_text("parameters", _prose(settings))
    with _whole(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=text)


def read_settings(path: Path) -> tuple[Picture | Comparison, Mapping[str, str]]:
    """The settings that `save` wrote, and the versions it wrote them with. Raises UserError."""
    with mendable(f"cannot read {path}", OSError, ValueError, SyntaxError), _open_png(path) as image:
        text = cast(Mapping[str, str], getattr(image, "text", {}))
    if CHUNK not in text:
        raise UserError(f"{path} carries no settings: it was not made by pag, or another program rewrote it")
    with mendable(f"the settings in {path} cannot be read", ValueError, RecursionError):
        record = json.loads(text[CHUNK])
        if not isinstance(record, dict):
            raise ValueError("they are not a JSON object")
        return _parse(cast(dict[str, Any], record))


def _parse(record: dict[str, Any]) -> tuple[Picture | Comparison, Mapping[str, str]]:
    made_with: object = record.pop("made_with", {})
    versions = cast(Mapping[str, str], made_with if isinstance(made_with, dict) else {})
    kind = Comparison if "prompts" in record else Picture
    return kind.from_json(record), versions


def _open_png(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=["PNG"])
    except Image.UnidentifiedImageError:
        raise ValueError("it is not a PNG file") from None


def _prose(settings: Picture | Comparison) -> str:
    """The layout that viewers know from other programs: prompt, negative prompt, `key: value` pairs."""
    record = settings.to_json()
    prompt = record.pop("prompt", None) or " | ".join(record.pop("prompts", ()))
    negative = record.pop("negative")
    pairs = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in record.items())
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), pairs])


def _versions() -> dict[str, str]:
    return {"pag": __version__} | {name: version(name) for name in ("torch", "diffusers")}


@contextmanager
def output_folder(path: Path) -> Generator[Path, None, None]:
    """`path` as a folder, writable (checked now); removed in the end if it is new and still empty."""
    missing: list[Path] = []
    try:
        with mendable(f"cannot write to {path}", OSError):
            missing += [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        yield path
    finally:
        with suppress(OSError):  # rmdir refuses a folder that is not empty: then it is wanted
            for folder in missing:
                folder.rmdir()


@contextmanager
def _whole(path: Path) -> Generator[Path, None, None]:
    """A file to write to that takes the name `path` once it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with mendable(f"cannot write {path}", OSError):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
