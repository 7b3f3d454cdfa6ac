"""Measure the models: 5,000 samples a row, by Fréchet distance. Goes on where it was ended; processes share the rows.

Writes ``work/rows/NAME.json``, which ``report.py`` collects.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from classifier import load_classifier, look
from data import HERE, WORK, load
from numpy.typing import NDArray
from package import MODELS

import pag
from pag.adm.samplers import use_sampler
from pag.adm.samples import Samples, sample

sys.path.append(str(HERE.parent / "avatars"))
from metrics import Features, Moments

NUM, STEPS, BATCH = 5000, 10, 250
ROWS = WORK / "rows"
PLACES = {
    "down, 16×16": ("input_blocks.3.1",),
    "down, 8×8": ("input_blocks.5.1",),
    "down, 4×4": ("input_blocks.7.1",),
    "middle, 4×4": ("middle_block.1",),
    "up, 4×4": ("output_blocks.0.1", "output_blocks.1.1"),
    "up, 8×8": ("output_blocks.2.1", "output_blocks.3.1"),
    "up, 16×16": ("output_blocks.4.1", "output_blocks.5.1"),
}
"""All layers of self-attention."""
AUTHORS = "authors'"
"""Counterparts of the paper's four layers: the last one at 8×8 on the way down, all at 4×4, the middle one."""

SAG_LAYER, SAG_SCALES = "output_blocks.1.1", {"unconditional": 0.5, "conditional": 0.2}
"""The counterpart of the layer that the authors of SAG look at in ADM, the last one at its lowest resolution, and their
scales. The blur is theirs too: 9 pixels of standard deviation at 256×256 are about 1 at 32×32, which "sag" has."""


@dataclass(frozen=True)
class Row:
    """One setting: a model, and how it is guided."""

    model: str
    method: str = "none"  # "sag" or "pag"
    scale: float = 0.0
    place: str = ""

    @property
    def name(self) -> str:
        where = self.place.replace("'", "").replace(", ", "-").replace("×", "x")
        return "_".join(part for part in (self.model, self.method, f"{self.scale:g}", where) if part)

    @property
    def samples(self) -> Samples:
        guided: dict = {"pag_scale": self.scale}
        if self.method == "sag":
            guided |= {"perturbation": "sag", "layers": [SAG_LAYER]}
        elif self.place in PLACES:
            guided |= {"layers": list(PLACES[self.place])}
        classes = "balanced" if self.model == "conditional" else "none"
        return Samples(num=NUM, seed=0, steps=STEPS, classes=classes, **guided)


MODELS_OF = ("unconditional", "conditional")
MAIN = [
    row
    for model in MODELS_OF
    for row in (
        Row(model),
        Row(model, "sag", SAG_SCALES[model]),
        *(Row(model, "pag", scale, AUTHORS) for scale in (0.5, 1, 2, 3)),
    )
]
ABLATION = [Row(model, "pag", 1, place) for model in MODELS_OF for place in PLACES]


@cache
def pipeline(model: str) -> pag.ADMPipeline:
    pipe = pag.ADMPipeline.from_pretrained(MODELS / model)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    use_sampler(pipe, "ddim")
    return pipe


def draw(row: Row, path: Path) -> None:
    """Write the samples of a row."""
    torch.compiler.reset()  # rows differ in the layers, each of which would be one more graph
    pipe = pipeline(row.model)
    pipe.unet.compile()
    with torch.autocast("cpu", torch.bfloat16):
        sample(pipe, path, row.samples, batch=BATCH)


@cache
def extractor() -> Features:
    return Features(64)


@dataclass(frozen=True)
class Seen:
    """What the judges see in images."""

    general: NDArray[np.float64]  # features of EfficientNet-Lite0
    own: NDArray[np.float64]  # features of the classifier of these classes
    classes: NDArray[np.int64]

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> Seen:
        """Those of grey images (N, 32, 32)."""
        classes, own = look(load_classifier(), images)
        return cls(extractor()(np.repeat(images[..., None], 3, -1)), own.astype(float), classes)


@cache
def reference() -> tuple[Seen, Moments, Moments]:
    """The 10,000 test images, which no model was trained on."""
    path = WORK / "reference.npz"
    if not path.exists():
        np.savez(path, **asdict(Seen.of(load("t10k")[0])))
    with np.load(path) as stored:
        seen = Seen(**stored)
    return seen, Moments.of(seen.general), Moments.of(seen.own)


def judge(images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> dict[str, float]:
    """Distances from the test images, and how many of the images are of their class."""
    seen, (real, general, own) = Seen.of(images), reference()
    precision, recall = manifolds(seen.general, real.general[: len(images)])
    found = {
        "distance": general.distance(seen.general),
        "own_distance": own.distance(seen.own),
        "precision": precision,
        "recall": recall,
    }
    return found if labels is None else {**found, "accuracy": float((seen.classes == labels).mean())}


def manifolds(made: NDArray[np.float64], real: NDArray[np.float64], k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (arXiv 1904.06991): samples among the real images, and these among the samples."""
    a, b = torch.from_numpy(made).float(), torch.from_numpy(real).float()
    between = torch.cdist(a, b)

    def radii(one: torch.Tensor) -> torch.Tensor:
        return torch.cdist(one, one).kthvalue(k + 1, 1)[0]

    inside = (between <= radii(b)).any(1), (between <= radii(a)[:, None]).any(0)
    return float(inside[0].float().mean()), float(inside[1].float().mean())


def measure(row: Row) -> None:
    path = WORK / "samples" / f"{row.name}.npz"
    draw(row, path)
    with np.load(path) as made:
        images, labels = made["arr_0"][..., 0], made.get("arr_1")
    save(row.name, {**asdict(row), "num": NUM, "steps": STEPS, **judge(images, labels)})


def measure_real() -> None:
    """As many real images, of those that the models were trained on, against the same reference."""
    images, labels = load("train")
    rows = np.random.default_rng(0).permutation(len(images))[:NUM]
    save("real", {"num": NUM, **judge(images[rows], labels[rows])})


def save(name: str, found: dict) -> None:
    fresh = ROWS / f"{name}.new"
    fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False))
    fresh.replace(ROWS / f"{name}.json")
    print(name, {key: round(value, 3) for key, value in found.items() if isinstance(value, float)}, flush=True)


def unclaimed(rows: list[Row]) -> Iterator[Row]:
    """Rows that are not done, and that no other process is at."""
    for row in rows:
        with (ROWS / f"{row.name}.lock").open("w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not (ROWS / f"{row.name}.json").exists():
                yield row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("main", "ablation"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ROWS.mkdir(parents=True, exist_ok=True)
    rows = {"main": MAIN, "ablation": ABLATION, None: MAIN + ABLATION}[args.only]
    for row in unclaimed(rows):
        measure(row)
    if not (ROWS / "real.json").exists():
        measure_real()


if __name__ == "__main__":
    main()
