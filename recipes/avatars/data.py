"""Attributes, captions and images of the avatar data set. ``python data.py`` draws and renders all of it."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WORK = HERE / "work"
SIZE = 64
SPLITS = {"train": (0, 28_000), "val": (28_000, 30_000), "test": (30_000, 41_000)}

CLOTH = ("red", "blue", "green", "yellow", "purple", "white", "black")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair": ("long", "short", "spiky", "bob", "pigtails", "mohawk", "bun", "bald"),
    "hair_color": ("black", "brown", "blonde", "red", "blue", "pink", "gray"),
    "hat": ("none", "red", "blue", "green", "yellow", "purple"),
    "eyewear": ("none", "glasses", "sunglasses"),
    "beard": ("none", "beard"),
    "mouth": ("smiling", "frowning", "surprised"),
    "skin": ("light", "brown", "dark"),
    "shirt": CLOTH,
    "pattern": ("plain", "checkered"),
    "background": ("blue", "green", "pink", "yellow", "purple", "gray", "orange"),
}
Avatar = dict[str, str]


def draw(seed: int) -> Avatar:
    """One avatar's attributes, by its seed alone."""
    rng = random.Random(seed)
    avatar = {name: rng.choice(values) for name, values in ATTRIBUTES.items()}
    if rng.random() < 0.8:
        avatar["hat"] = "none"
    avatar["beard"] = "beard" if rng.random() < 0.2 else "none"
    avatar["pattern"] = "checkered" if rng.random() < 0.25 else "plain"
    avatar["eyewear"] = rng.choices(("none", "glasses", "sunglasses"), (0.5, 0.3, 0.2))[0]
    return {"seed": str(seed), **avatar}


def visible(avatar: Avatar) -> set[str]:
    """The attributes that can be seen (a hat hides the hair)."""
    seen = set(ATTRIBUTES)
    if avatar["hat"] != "none":
        seen -= {"hair", "hair_color"}
    elif avatar["hair"] == "bald" and avatar["beard"] == "none":
        seen -= {"hair_color"}
    return seen


def caption(avatar: Avatar, rng: random.Random, keep: float = 0.75) -> tuple[str, set[str]]:
    """A natural short phrase and the attributes it names. Each attribute is named with probability ``keep``."""
    named = {name for name in ATTRIBUTES if name in visible(avatar) and rng.random() < keep}
    a, words = avatar, list[str]()
    if "hair" in named and a["hair"] == "bald":
        words.append("bald")
        named -= {"hair_color"}
    elif named & {"hair", "hair_color"}:
        color = a["hair_color"] if "hair_color" in named else ""
        cut = a["hair"] if "hair" in named else ""
        noun = f"{color} {cut}" if cut in ("bob", "pigtails", "mohawk", "bun") else f"{cut} {color} hair"
        words.append(" ".join(noun.split()))
    if "hat" in named and a["hat"] != "none":
        words.append(f"{a['hat']} hat")
    if "eyewear" in named and a["eyewear"] != "none":
        words.append(a["eyewear"])
    if "beard" in named and a["beard"] != "none":
        words.append("beard")
    if "mouth" in named:
        words.append(a["mouth"])
    if "skin" in named:
        words.append(f"{a['skin']} skin")
    if "shirt" in named:
        checked = "pattern" in named and a["pattern"] == "checkered"
        words.append(f"checkered {a['shirt']} shirt" if checked else f"{a['shirt']} shirt")
    if "background" in named:
        words.append(f"{a['background']} background")
    if rng.random() < 0.5:
        rng.shuffle(words)
    unsaid = {n for n in ("hat", "eyewear", "beard") if a[n] == "none"}
    if "shirt" not in named or a["pattern"] == "plain":
        unsaid |= {"pattern"}
    return ", ".join(["pixel art portrait", *words]), named - unsaid


def load(split: str) -> tuple[np.ndarray, list[Avatar]]:
    """Images (N, 64, 64, 3) uint8, memory-mapped, and their attributes."""
    avatars = [json.loads(line) for line in (WORK / f"{split}.jsonl").read_text().splitlines()]
    images = np.memmap(WORK / f"{split}.raw", np.uint8, "r", shape=(len(avatars), SIZE, SIZE, 3))
    return images, avatars


def main() -> None:
    WORK.mkdir(exist_ok=True)
    for split, (first, last) in SPLITS.items():
        lines = [json.dumps(draw(seed)) for seed in range(first, last)]
        (WORK / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        subprocess.run(["node", "render.mjs", f"work/{split}.jsonl", f"work/{split}.raw"], cwd=HERE, check=True)
        print(split, len(lines), flush=True)


if __name__ == "__main__":
    main()
