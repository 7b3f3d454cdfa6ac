"""Fashion-MNIST, 70,000 grey pictures of clothes in 10 classes, as Debian packages it.

``python data.py`` unpacks it.
"""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HERE = Path(__file__).parent
WORK = HERE / "work"
PACKAGE = "dataset-fashion-mnist"
FOLDER = WORK / "usr/share/datasets/fashion-mnist"
SIZE = 32  # 28 pixels and a border of 2
CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def load(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 32, 32) and labels (N,) of "train", 60,000, or "t10k", 10,000."""
    with gzip.open(FOLDER / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FOLDER / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), labels


def floats(images: NDArray[np.uint8]) -> Tensor:
    """Images (N, 32, 32) as float[N, 1, 32, 32] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).float()[:, None] / 127.5 - 1


def main() -> None:
    WORK.mkdir(exist_ok=True)
    subprocess.run(["apt-get", "download", PACKAGE], cwd=WORK, check=True)
    package = next(WORK.glob(f"{PACKAGE}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, WORK], check=True)
    print({split: load(split)[0].shape for split in ("train", "t10k")})


if __name__ == "__main__":
    main()
