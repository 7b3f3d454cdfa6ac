"""The figures of `docs/concepts/cost.md`."""

from benchmarks import plot
from benchmarks.chosen import OURS, PEERS, Result, Results, by_scheduler, contests, find
from benchmarks.contest import BOTH, CFG, median
from benchmarks.fidelity import FAST, JUDGED, STEPS, summary


def drawn(known: Results) -> dict[str, str]:
    """Figures by file name; those without results are left out."""
    panels = {
        "cost-scale.svg": _scale_panels(known),
        "cost-layers.svg": _layer_panels(known),
        "cost-fidelity.svg": _fidelity_panels(known),
        "cost-quality.svg": _quality_panels(known),
    }
    return {name: plot.svg(each) for name, each in panels.items() if each}


def _scale_panels(known: Results) -> list[plot.Panel]:
    lines = {"CFG": (CFG, ("",)), "CFG + PAG, diffusers": (BOTH, PEERS), "CFG + PAG, here": (BOTH, OURS)}
    found = [one for one in contests(known, "cpu") if one["model"] == "sd15" and one["steps"] == 1]

    def series(axis: str, fixed: str, at: int) -> dict[str, plot.Points]:
        chosen = [one for one in found if one[fixed] == at]
        points = {
            name: [(one[axis], median(contender, 1)) for one in chosen if (contender := find(one, *which))]
            for name, which in lines.items()
        }
        return {name: each for name, each in points.items() if len(each) > 1}

    panels = [
        plot.Panel("256², against batch size", "images", "seconds a step", series("batch", "size", 256)),
        plot.Panel("One image, against resolution", "height and width", "seconds a step", series("size", "batch", 1)),
    ]
    if "sizes" in known:
        counted = known["sizes"]["counted"]
        names = {"CFG": "plain", "CFG + PAG, diffusers": "rows", "CFG + PAG, here": "guided"}
        names["CFG + PAG, here, low memory"] = "low_memory"
        memory = {
            line: [(one["size"], one["memory"][name] / 2**20) for one in counted if one["size"] <= 512]
            for line, name in names.items()
        }
        panels.append(plot.Panel("Activations of one image, counted", "height and width", "MiB", memory))
    return [panel for panel in panels if panel.series]


def _layer_panels(known: Results) -> list[plot.Panel]:
    if "layers" not in known:
        return []
    found: Result = known["layers"]["networks"]
    where = {
        name: [(100 * at / max(len(one["each"]) - 1, 1), layer["extra"]) for at, layer in enumerate(one["each"])]
        for name, one in found.items()
    }
    many = {name: [(each["layers"], each["executed"]) for each in one["several"]] for name, one in found.items()}
    return [
        plot.Panel("Which layer", "place among the layers, % from the input", "extra forwards a step", where),
        plot.Panel("How many, from the middle on", "perturbed layers", "forwards a step, CFG + PAG", many),
    ]


def _fidelity_panels(known: Results) -> list[plot.Panel]:
    def points(one: Result) -> plot.Points:
        return [
            (method["forwards"], summary(method)["psnr"])
            for name, method in one["methods"].items()
            if name == FAST or name.startswith(("PAG every", "both every"))
        ]

    return [
        plot.Panel(f"{steps} steps", "forwards a step", "PSNR, dB", series, zero=False)
        for steps in STEPS
        if (series := {name: points(one) for name, one in by_scheduler(known, "fidelity", steps).items()})
    ]


def _quality_panels(known: Results) -> list[plot.Panel]:
    def series(steps: int, key: str, unit: float) -> dict[str, plot.Points]:
        found = [one["methods"] for one in by_scheduler(known, "quality", steps).values()]
        return (
            {name: [(one[name]["forwards"], one[name][key] * unit) for one in found] for name in JUDGED}
            if found
            else {}
        )

    return [
        plot.Panel(f"{label}, {steps} steps", "forwards a step", label, found, zero=False, joined=False)
        for key, label, unit in (("distance", "Fréchet distance", 1.0), ("attributes", "attributes found, %", 100.0))
        for steps in STEPS
        if (found := series(steps, key, unit))
    ]
