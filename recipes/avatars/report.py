"""Tables (markdown) and plots of ``results/results.json``, and sheets of samples."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from data import ATTRIBUTES, HERE, WORK

RESULTS = HERE / "results"
Rows = list[dict]


def where(row: dict) -> str:
    return ", ".join(row["layers"]) if row["s"] else "none"


def label(row: dict) -> str:
    parts = ["unconditional" if row["prompts"] == "empty" else "prompts"]
    parts += [f"CFG {row['g']:g}"] if row["g"] > 1 else []
    parts += [f"PAG {row['s']:g}"] if row["s"] else []
    return " + ".join(parts) if len(parts) > 1 else f"{parts[0]}, unguided"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main_table(known: dict[str, dict]) -> str:
    n = known["main"]["n"]
    rows = [known[f"{key}-n{n}"] for key in known["main"]["rows"]]
    first = {row["prompts"]: row["distance"] for row in reversed(rows)}
    first |= {row["prompts"]: row["distance"] for row in rows if row["g"] == 1 and not row["s"]}
    body = [
        [
            label(row),
            where(row),
            f"{row['distance']:.2f}",
            f"{row['distance'] / first[row['prompts']] - 1:+.0%}",
            f"{row['accuracy']['all']:.1%}" if "accuracy" in row else "",
        ]
        for row in rows
    ]
    body.append(["real against real", "", f"{known[f'real-n{n}']['distance']:.2f}", "", ""])
    header = ["row", "perturbed", f"distance, N = {n}", "against unguided", "named attributes found"]
    return table(header, body)


def accuracy_table(known: dict[str, dict]) -> str:
    n = known["main"]["n"]
    rows = [row for key in known["main"]["rows"] if "accuracy" in (row := known[f"{key}-n{n}"])]
    real = json.loads((WORK / "classifier.json").read_text())
    body = [
        [name.replace("_", " "), *(f"{row['accuracy'][name]:.1%}" for row in rows), f"{real[name]:.1%}"]
        for name in ATTRIBUTES
    ]
    return table(["attribute", *map(label, rows), "classifier on real"], body)


def layer_table(known: dict[str, dict], n: int) -> str:
    rows = sweep(known, n, lambda r: r["prompts"] == "empty")
    scales = sorted({row["s"] for row in rows if row["s"]})
    tried = {(tuple(row["layers"]), row["s"]): row["distance"] for row in rows}
    least = {place: min(tried[key] for key in tried if key[0] == place) for place, scale in tried if scale}
    places = sorted(least, key=lambda place: least[place])
    body = [[", ".join(p), *(f"{tried[p, s]:.1f}" if (p, s) in tried else "" for s in scales)] for p in places]
    body.append(["none", *[f"{tried[(), 0]:.1f}"] * len(scales)])
    return table(["perturbed", *(f"s = {scale:g}" for scale in scales)], body)


def sweep(known: dict[str, dict], n: int, keep) -> Rows:
    return [row for key, row in known.items() if "prompts" in row and row["n"] == n and keep(row)]


def plot(known: dict[str, dict], n: int, path: Path) -> None:
    """Distance against scale: PAG alone without and with prompts, CFG alone, PAG on top of CFG."""
    guided = sweep(known, n, lambda r: r["prompts"] == "empty" and r["s"])
    layers = min(guided, key=lambda r: r["distance"])["layers"]
    same = sweep(known, n, lambda r: not r["s"] or r["layers"] == layers)
    top = next(row["g"] for row in same if row["g"] > 1 and row["s"])
    lines = {
        "PAG, unconditional": ("s", [r for r in same if r["prompts"] == "empty"]),
        "PAG, prompts": ("s", [r for r in same if r["prompts"] != "empty" and r["g"] == 1]),
        f"PAG on CFG {top:g}": ("s", [r for r in same if r["g"] == top]),
        "CFG, prompts": ("g", [r for r in same if r["prompts"] != "empty" and not r["s"]]),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for name, (scale, rows) in lines.items():
        points = sorted((row[scale], row["distance"]) for row in rows)
        axes[int(scale == "g")].plot(*zip(*points, strict=True), marker="o", label=name)
    for axis, text in zip(axes, ("PAG scale s", "CFG scale g"), strict=True):
        axis.axhline(known[f"real-n{n}"]["distance"], color="gray", ls=":", label="real against real")
        axis.set(xlabel=text)
        axis.legend(frameon=False)
    axes[0].set(ylabel=f"Frechet distance, N = {n}")
    figure.savefig(path, dpi=110)


def main() -> None:
    known = json.loads((RESULTS / "results.json").read_text())
    n = min(row["n"] for row in known.values() if "prompts" in row)
    parts = ["# Results\n", layer_table(known, n)]
    plot(known, n, RESULTS / "scales.png")
    if "main" in known:
        parts[1:1] = [main_table(known), accuracy_table(known)]
    (RESULTS / "README.md").write_text("\n".join(parts))
    print("\n".join(parts))


if __name__ == "__main__":
    main()
