"""Files of weights, good and bad."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tests.adm import reference

SIZE, CLASSES = 16, 7
SETTINGS = {"heads": 4, "image_size": SIZE, "attention_order": "legacy", "noise_schedule": "cosine"}
"""What the weights of `unet` do not tell, by the options of the command."""


def unet(**given: Any) -> Any:
    """A tiny conditional U-Net of the published architecture, with a fixed number of heads."""
    torch.manual_seed(0)
    more: dict[str, Any] = {"heads": 4, "classes": CLASSES} | given
    return reference.UNet(32, (1, 2), 1, (1, 2), **more).eval().requires_grad_(False)


def classifier(size: int = SIZE, classes: int = CLASSES) -> Any:
    """A tiny classifier."""
    torch.manual_seed(1)
    return reference.Classifier(size, 32, (1, 1, 2), 1, (2, 4), 16, classes).eval().requires_grad_(False)


def save(network: nn.Module, file: Path) -> Path:
    """As the original saves it."""
    weights = network.state_dict()
    save_file(weights, file) if file.suffix == ".safetensors" else torch.save(weights, file)
    return file


class Malice:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def _cut(file: Path, **options: Any) -> None:
    torch.save(unet().state_dict(), file, **options)
    file.write_bytes(file.read_bytes()[:-1000])


def _cut_safetensors(file: Path) -> None:
    save_file(unet().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-1000])


def _archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("readme", "no weights")


OLD = {"_use_new_zipfile_serialization": False}

BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "none": ("none.pt", lambda file: None, "cannot read none.pt: no such file or directory"),
    "folder": ("folder.pt", lambda file: file.mkdir(), "folder.pt is a folder"),
    "empty": ("empty.pt", lambda file: file.touch(), "empty.pt is empty"),
    "page": ("page.pt", lambda file: file.write_text("\n<!DOCTYPE html><title>404"), "page.pt is a web page"),
    "pointer": (
        "pointer.pt",
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "pointer.pt is a pointer of Git LFS",
    ),
    "text": ("text.pt", lambda file: file.write_text("hello"), "text.pt is no checkpoint of PyTorch"),
    "noise": ("noise.pt", lambda file: file.write_bytes(bytes(range(255, 0, -1)) * 9), "noise.pt is no checkpoint"),
    "archive": ("archive.pt", _archive, "archive.pt is no checkpoint of PyTorch"),
    "cut off": ("cut.pt", _cut, "cut.pt is cut off"),
    "old, cut off": ("cut.pt", lambda file: _cut(file, **OLD), "cut.pt is cut off"),
    "safetensors, cut off": ("cut.safetensors", _cut_safetensors, "cut.safetensors is cut off or damaged"),
    "malicious": (
        "evil.pt",
        lambda file: torch.save({"input_blocks.0.0.weight": Malice(file.parent / "ran")}, file),
        "evil.pt holds more than weights, posix.mkdir: making such things may run code, so that it is refused",
    ),
    "malicious, old": (
        "evil.pt",
        lambda file: torch.save({"input_blocks.0.0.weight": Malice(file.parent / "ran")}, file, **OLD),
        "evil.pt holds more than weights, posix.mkdir",
    ),
    "malicious, a bare pickle": (
        "evil.pt",
        lambda file: file.write_bytes(pickle.dumps(Malice(file.parent / "ran"))),
        "evil.pt is no checkpoint of PyTorch",
    ),
    "a module": ("module.pt", lambda file: torch.save(nn.Linear(2, 2), file), "more than weights, torch.nn.modules"),
    "arrays": ("array.pt", lambda file: torch.save({"a": np.zeros(3)}, file), "more than weights, numpy."),
    "a list": ("list.pt", lambda file: torch.save([1], file), "but holds a list"),
    "nothing": ("nothing.pt", lambda file: torch.save({}, file), "but holds nothing"),
    "an optimizer": (
        "opt.pt",
        lambda file: torch.save(torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict(), file),
        "but holds state, param_groups",
    ),
    "another model": (
        "other.pt",
        lambda file: save(nn.Linear(2, 2), file),
        "other.pt: these are not the weights of a guided-diffusion model",
    ),
    "other blocks": (
        "blocks.pt",
        lambda file: torch.save({n: w for n, w in unet().state_dict().items() if "blocks.1." not in n}, file),
        "blocks.pt: these weights are named as those of a guided-diffusion model, but no model has such blocks",
    ),
    "a classifier": ("judge.pt", lambda file: save(classifier(), file), "judge.pt: this is a classifier"),
}
"""By what is wrong: the file, what makes it, and what the error says."""
