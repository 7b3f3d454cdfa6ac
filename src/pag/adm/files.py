"""Files of weights from elsewhere: read without running what may be in them."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pag.generate.errors import UserError, mendable

__all__ = ["read_weights"]

_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")
_POINTER = b"version https://git-lfs"


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, of `torch.save` or in the safetensors format; mapped, not copied.

    Nothing but tensors and plain containers is ever made of a file: one that holds code is refused, and not run.

    Raises:
        UserError: the file is none, or is damaged, or holds other things.
    """
    start = _start(file)
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        with mendable(f"{file} is cut off or damaged", SafetensorError, OSError):
            loaded: Any = load_file(file)
    else:
        loaded = _unpickled(file, zipped=start.startswith(b"PK"))
    return _tensors(file, loaded)


def _start(file: Path) -> bytes:
    if file.is_dir():
        raise UserError(f"{file} is a folder; the checkpoint of a guided-diffusion model is one file")
    with mendable(f"cannot read {file}", OSError), file.open("rb") as opened:
        start = opened.read(64)
    if not start:
        raise UserError(f"{file} is empty")
    if start.lstrip().lower().startswith(_PAGE):
        raise UserError(f"{file} is a web page, not a checkpoint: the download answered with an error, or a link")
    if start.startswith(_POINTER):
        raise UserError(f"{file} is a pointer of Git LFS to a checkpoint: run git lfs pull")
    return start


def _unpickled(file: Path, zipped: bool) -> Any:
    if zipped and not zipfile.is_zipfile(file):
        raise UserError(f"{file} is cut off: load it again")
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    # Whatever a broken file makes of the reader surfaces here, as any kind of exception.
    except Exception as error:
        raise UserError(f"{file} {_fault(error)}") from error


def _fault(error: Exception) -> str:
    if isinstance(error, UnpicklingError) and (code := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return f"holds more than weights, {code[1]}: making such things may run code, so that it is refused"
    if isinstance(error, EOFError) or "unexpected EOF" in str(error):
        return "is cut off: load it again"
    return "is no checkpoint of PyTorch, or is damaged"


def _tensors(file: Path, loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        found = f"a {type(loaded).__name__}"
    elif loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        return dict(loaded)
    else:
        found = ", ".join(map(str, list(loaded)[:5])) or "nothing"
    raise UserError(f"{file} should hold weights by name, as state_dict() gives them, but holds {found}")
