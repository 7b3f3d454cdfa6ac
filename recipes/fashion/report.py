"""Tables, a plot and sheets of the samples that ``evaluate.py`` measured, in ``results/``."""

from __future__ import annotations

import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from data import HERE, WORK
from evaluate import ABLATION, AUTHORS, MAIN, MODELS_OF, PLACES, ROWS, SAG_SCALES, Row
from PIL import Image

RESULTS, IMAGE = HERE / "results", HERE.parents[1] / "docs/images/adm-small.png"
PAPER = {
    ("unconditional", "none"): "26.21",
    ("unconditional", "sag"): "20.31",
    ("unconditional", "pag"): "16.23",
    ("conditional", "none"): "10.94",
    ("conditional", "sag"): "9.41",
    ("conditional", "pag"): "6.32",
}
"""FID of ADM on ImageNet 256×256, 50,000 samples of 250 steps, PAG at s = 1; SAG's from its authors' repository."""
METHODS = {"none": "no guidance", "sag": "SAG", "pag": "PAG"}
Found = dict[str, dict]


def collected() -> Found:
    """What was measured, by name; a row that is missing is an error."""
    names = [row.name for row in MAIN + ABLATION] + ["real"]
    return {name: json.loads((ROWS / f"{name}.json").read_text()) for name in names}


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main_table(known: Found) -> str:
    body = []
    for row in MAIN:
        found, plain = known[row.name], known[Row(row.model).name]
        shown = row.method != "pag" or row.scale == 1
        body.append(
            [
                row.model,
                METHODS[row.method] + (f", s = {row.scale:g}" if row.scale else ""),
                f"{found['distance']:.2f}",
                f"{found['distance'] / plain['distance'] - 1:+.0%}" if row.scale else "",
                f"{found['own_distance']:.1f}",
                f"{found['precision']:.3f}",
                f"{found['recall']:.3f}",
                f"{found['accuracy']:.1%}" if "accuracy" in found else "",
                PAPER[row.model, row.method] if shown else "",
            ]
        )
    real = known["real"]
    numbers = [f"{real['distance']:.2f}", "", f"{real['own_distance']:.1f}", f"{real['precision']:.3f}"]
    body.append(["real images", "", *numbers, f"{real['recall']:.3f}", f"{real['accuracy']:.1%}", ""])
    header = ["model", "guidance", "distance", "change", "by the classifier", "precision", "recall", "of its class"]
    return table([*header, "paper's FID, full size"], body)


def ablation_table(known: Found) -> str:
    def number(model: str, place: str) -> str:
        found, plain = (known[row.name]["distance"] for row in (Row(model, "pag", 1, place), Row(model)))
        return f"{found:.2f} ({found / plain - 1:+.0%})"

    body = [[place, ", ".join(PLACES[place]), *(number(model, place) for model in MODELS_OF)] for place in PLACES]
    counterparts = "input_blocks.5.1, input_blocks.7.1, middle_block.1"
    body.append(["the authors' layers", counterparts, *(number(model, AUTHORS) for model in MODELS_OF)])
    body.append(["no guidance", "", *(f"{known[Row(model).name]['distance']:.2f}" for model in MODELS_OF)])
    return table(["perturbed", "layers", *MODELS_OF], body)


def plot(known: Found) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained", width_ratios=(1, 1, 1.3))
    for axis, key, label in zip(axes, ("distance", "own_distance"), ("EfficientNet-Lite0", "classifier"), strict=False):
        for model, color in zip(MODELS_OF, ("C0", "C1"), strict=True):
            scales = [(row.scale, known[row.name][key]) for row in MAIN if row.model == model and row.method != "sag"]
            axis.plot(*zip(*scales, strict=True), marker="o", color=color, label=f"PAG, {model}")
            for row in (row for row in MAIN if row.model == model and row.method == "sag"):
                axis.plot(row.scale, known[row.name][key], "x", ms=8, mew=2, color=color, label=f"SAG, {model}")
        axis.axhline(known["real"][key], color="gray", ls=":", label="real images")
        axis.set(xlabel="scale s", title=f"Fréchet distance, {label}", ylim=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=5, frameon=False, fontsize=9)
    width = 0.38
    for offset, model, color in zip((-width / 2, width / 2), MODELS_OF, ("C0", "C1"), strict=True):
        plain = known[Row(model).name]["distance"]
        changes = [100 * (known[Row(model, "pag", 1, place).name]["distance"] / plain - 1) for place in PLACES]
        axes[2].barh(np.arange(len(PLACES)) - offset, changes, width, color=color, label=model)
    axes[2].set_yticks(range(len(PLACES)), list(PLACES))
    axes[2].invert_yaxis()
    axes[2].axvline(0, color="gray", lw=0.8)
    axes[2].set(xlabel="change of the distance, %", title="one place perturbed, s = 1")
    axes[2].legend(frameon=False, fontsize=8)
    figure.savefig(IMAGE, dpi=110)


def sheet(model: str, rows: list[Row], columns: int = 20) -> None:
    """The same first samples without guidance and with, one row of pictures each."""
    lines = []
    for row in rows:
        with np.load(WORK / "samples" / f"{row.name}.npz") as made:
            lines.append(np.concatenate(list(made["arr_0"][:columns]), 1))
    picture = Image.fromarray(np.concatenate(lines))
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(RESULTS / f"{model}.png")


def main() -> None:
    RESULTS.mkdir(exist_ok=True)
    known = collected()
    (RESULTS / "results.json").write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    text = f"# Results\n\n{main_table(known)}\n{ablation_table(known)}"
    (RESULTS / "README.md").write_text(text)
    plot(known)
    for model in MODELS_OF:
        pag = [Row(model, "pag", scale, AUTHORS) for scale in (1, 2, 3)]
        sheet(model, [Row(model), Row(model, "sag", SAG_SCALES[model]), *pag])
    print(text)


if __name__ == "__main__":
    main()
