"""Measure the packaged model: layer sweep, scale sweeps, main table. What is drawn is kept, so a rerun goes on."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context

import numpy as np
import torch
from classifier import load_classifier, predict
from data import ATTRIBUTES, HERE, WORK, caption, load
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from metrics import Features, Moments
from PIL import Image

import pag

RESULTS = HERE / "results"
MODEL = HERE.parents[1] / "src/pag/assets/avatars"
CACHE = WORK / "evaluation"
BATCH = 25
LAYERS = (("mid",), ("down_blocks.1",), ("up_blocks.0",), ("down_blocks.0",), ("up_blocks.1",), ("mid", "up_blocks.0"))
SCALES = {"layers": (0.25, 1, 2), "pag": (0.25, 0.5, 1, 2), "cfg": (1.5, 2, 3, 5), "both": (0.25, 0.5, 1)}


@dataclass(frozen=True)
class Row:
    """One sampling setting. ``s`` zero: no PAG. ``g`` one: no CFG."""

    prompts: str  # "empty" or "held-out"
    g: float = 1.0
    s: float = 0.0
    layers: tuple[str, ...] = ()
    steps: int = 8

    @property
    def key(self) -> str:
        where = "+".join(self.layers).replace(".", "-")
        return "_".join(filter(None, (self.prompts, f"g{self.g:g}", f"s{self.s:g}", where, f"t{self.steps}")))


def prompts_of(kind: str, n: int) -> tuple[list[str], list[set[str]]]:
    """Prompts of the first n held-out avatars and the attributes they name."""
    if kind == "empty":
        return [""] * n, [set()] * n
    rng = random.Random(1)
    pairs = [caption(a, rng, 0.8) for a in load("test")[1][:n]]
    return [text for text, _ in pairs], [named for _, named in pairs]


@cache
def pipeline() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.inference_mode()
def draw(row: Row, start: int, stop: int) -> np.ndarray:
    """Images (stop - start, 64, 64, 3) uint8; image i depends on seed i and prompt i alone."""
    pipe, texts = pipeline(), prompts_of(row.prompts, stop)[0]
    seeds = [torch.Generator().manual_seed(i) for i in range(start, stop)]
    options = {"guidance_scale": row.g, "num_inference_steps": row.steps, "generator": seeds, "output_type": "np"}
    with pag.guide(pipe, scale=row.s, layers=list(row.layers)) if row.s else contextlib.nullcontext():
        images = pipe(texts[start:stop], height=64, width=64, **options).images
    return (images * 255).round().astype(np.uint8)


def look(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 1280) of images and the attributes (n, A) that the classifier finds."""
    labels = predict(load_classifier(), images)
    return extractor()(images).astype(np.float32), torch.stack([labels[name] for name in ATTRIBUTES], 1).numpy()


def sample(job: tuple[Row, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and found attributes of some of a row's samples, and the first few as pictures."""
    images = draw(*job)
    return *look(images), images


@cache
def pool() -> ProcessPoolExecutor:
    """One process per core, each on one thread: faster than two threads on networks as small as these."""
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,))


@cache
def extractor() -> Features:
    return Features()


def real_features(first: int, last: int) -> np.ndarray:
    return look(load("test")[0][first:last])[0]


@cache
def real(first: int, last: int) -> np.ndarray:
    """Features of fresh real images of the test split."""
    path = CACHE / f"real-{first}-{last}.npy"
    if not path.exists():
        starts = range(first, last, BATCH)
        parts = pool().map(real_features, starts, [min(start + BATCH, last) for start in starts])
        np.save(path, np.concatenate(list(parts)))
    return np.load(path)


@cache
def reference() -> Moments:
    return Moments.of(real(5000, 10_000).astype(float))


def grow(row: Row, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 1280) and found attributes (n, A) of the row's first n samples, extending what is on disk."""
    path = CACHE / f"{row.key}.npz"
    features, found = np.zeros((0, 1280), np.float32), np.zeros((0, len(ATTRIBUTES)), np.int64)
    if path.exists():
        with np.load(path) as stored:
            features, found = stored["features"], stored["found"]
    if (done := len(features)) < n:
        clock = time.time()
        jobs = [(row, start, min(start + BATCH, n)) for start in range(done, n, BATCH)]
        parts = list(pool().map(sample, jobs))
        features = np.concatenate([features, *(part[0] for part in parts)])
        found = np.concatenate([found, *(part[1] for part in parts)])
        np.savez(path, features=features, found=found)
        if done == 0:
            sheet = (
                np.concatenate([part[2] for part in parts])[:48]
                .reshape(4, 12, 64, 64, 3)
                .transpose(0, 2, 1, 3, 4)
                .reshape(256, 768, 3)
            )
            Image.fromarray(sheet).save(CACHE / f"{row.key}.png")
        print(f"{row.key} {n} {time.time() - clock:.0f} s", flush=True)
    return features[:n], found[:n]


def accuracy(found: np.ndarray, kind: str) -> dict[str, float]:
    """Share of the named attributes that the classifier finds, by attribute and over all."""
    avatars = load("test")[1]
    hits: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for i, names in enumerate(prompts_of(kind, len(found))[1]):
        for column, name in enumerate(ATTRIBUTES):
            if name in names:
                hits[name].append(ATTRIBUTES[name][found[i, column]] == avatars[i][name])
    return {
        **{k: float(np.mean(v)) for k, v in hits.items()},
        "all": float(np.mean([hit for v in hits.values() for hit in v])),
    }


def measure(row: Row, n: int) -> dict:
    """Distance and accuracy over the row's first n samples; written to results.json."""
    features, found = grow(row, n)
    result = {**asdict(row), "n": n, "distance": reference().distance(features.astype(float))}
    if row.prompts != "empty":
        result["accuracy"] = accuracy(found, row.prompts)
    record(f"{row.key}-n{n}", result)
    print(f"{row.key} n {n}: distance {result['distance']:.2f}", flush=True)
    return result


def record(key: str, result: dict) -> None:
    file = RESULTS / "results.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, key: result}, indent=1) + "\n")


def floor(n: int) -> None:
    record(f"real-n{n}", {"n": n, "distance": reference().distance(real(0, n).astype(float))})


def best(rows: list[Row], n: int) -> Row:
    distances = {row: measure(row, n)["distance"] for row in rows}
    return min(rows, key=lambda row: distances[row])


def sweeps(base: Row, n: int) -> list[Row]:
    """Sweep layers, then scales; the six main rows at the best settings found."""
    cond = replace(base, prompts="held-out")
    measure(base, n)
    measure(cond, n)
    layer = best([replace(base, s=s, layers=layers) for layers in LAYERS for s in SCALES["layers"]], n).layers
    pag_only = best([replace(base, s=s, layers=layer) for s in SCALES["pag"]], n)
    cfg = best([replace(cond, g=g) for g in SCALES["cfg"]], n)
    both = best([replace(cfg, s=s, layers=layer) for s in SCALES["both"]], n)
    cond_pag = replace(pag_only, prompts="held-out")
    measure(cond_pag, n)
    return [base, pag_only, cfg, both, cond, cond_pag]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=5000, help="samples of a main row")
    parser.add_argument("--sweep-n", type=int, default=300, help="samples of a row of the sweeps")
    parser.add_argument("--steps", type=int, default=6, help="sampling steps of a main row")
    parser.add_argument("--sweep-steps", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=0, help="stop growing the main rows after this time")
    args = parser.parse_args()
    start = time.time()
    for folder in (RESULTS, CACHE):
        folder.mkdir(exist_ok=True)
    floor(args.sweep_n)
    best_rows = sweeps(Row("empty", steps=args.sweep_steps), args.sweep_n)
    rows = [replace(row, steps=args.steps) for row in best_rows]
    n = 0
    while n < args.n and not (args.minutes and time.time() - start > 60 * args.minutes):
        n = min(args.n, n + 1000)
        for row in rows:
            grow(row, n)
    floor(n)
    for row in rows:
        measure(row, n)
    record("main", {"n": n, "rows": [row.key for row in rows]})


if __name__ == "__main__":
    main()
