"""Writes the tables and figures of `docs/concepts/cost.md` from the results: ``python -m benchmarks.page``."""

import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import record
from benchmarks.chosen import MODELS, OURS, PEERS, Result, Results, by_scheduler, contests, find
from benchmarks.contest import BOTH, CFG, PAG, median
from benchmarks.fidelity import EXACT, JUDGED, METHODS, STEPS, summary
from benchmarks.figures import drawn
from benchmarks.speed import ON_GPU

DOCS = record.ROOT / "docs"
PAGE = "concepts/cost.md"
IMAGES = "images"
NOT_YET = "Not measured yet."


def write(results: Path, docs: Path) -> None:
    """Write the figures, and the tables of the page if it is there."""
    known = record.read(results)
    folder = docs / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawn(known).items():
        (folder / name).write_text(drawing)
    page = docs / PAGE
    if page.exists():
        page.write_text(rendered(page.read_text(), known))


def rendered(text: str, known: Results) -> str:
    """A page with what stands between its markers written anew."""

    def fill(match: re.Match[str]) -> str:
        return f"{match['begin']}\n\n{SECTIONS[match['name']](known)}\n\n{match['end']}"

    return re.sub(r"(?P<begin><!-- begin (?P<name>\w+) -->).*?(?P<end><!-- end -->)", fill, text, flags=re.DOTALL)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in markdown."""
    head = list(header)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def what(result: Result) -> str:
    """Model, size and batch of a contest."""
    words = [MODELS[result["model"]], f"{result['size']}²", f"batch {result['batch']}"]
    words += [f"{result['steps']} steps"] if result["steps"] > 1 else []
    words += [f"`torch.compile`, {result['compiled']}"] if result["compiled"] else []
    return ", ".join(words)


def overview(known: Results) -> str:
    """Ratios of each contest on the CPU: time, and counted operations behind it."""
    rows = []
    for one in contests(known, "cpu"):
        both = find(one, BOTH, OURS)
        ratios = [
            _ratio(find(one, PAG, OURS), find(one, PAG, PEERS)),
            _ratio(both, find(one, BOTH, PEERS)),
            _ratio(both, find(one, CFG)),
        ]
        rows += [[what(one), *ratios]] if any(ratios) else []
    header = ("", "PAG, against diffusers", "CFG + PAG, against diffusers", "CFG + PAG, against CFG alone")
    return table(header, rows) + "\n\n" + _origin(known, lambda one: "contenders" in one and one["device"] == "cpu")


def details(known: Results) -> str:
    """Every contender of every contest on the CPU."""
    return _details(contests(known, "cpu"))


def gpu(known: Results) -> str:
    """The same on a GPU, or that it is missing."""
    if found := contests(known, "cuda"):
        return _details(found) + "\n\n" + _origin(known, lambda one: one.get("device") == "cuda")
    names = ", ".join(dict.fromkeys(MODELS[name] for name in ("sdxl", "sd35_medium", "flux")))
    return (
        f"**Figures of a GPU are missing:** none was available. The same command measures {names} there (1024², bf16, "
        f"batches of 1 and 4; eager, compiled, and compiled with CUDA graphs: {len(ON_GPU)} parts)."
    )


def scale(known: Results) -> str:
    """Time and memory against batch size and resolution."""
    if "sizes" not in known:
        return NOT_YET
    rows = [
        [
            f"{one['size']}²",
            f"{one['cost']['executed']:.2f}",
            *(f"{one['memory'][name] / 2**20:.0f}" for name in ("plain", "rows", "guided", "low_memory")),
        ]
        for one in known["sizes"]["counted"]
    ]
    header = (
        "counted, one image",
        "forwards a step, CFG + PAG",
        "MiB, CFG alone",
        "MiB, three rows",
        "MiB, here",
        "low memory",
    )
    drawing = _figure("cost-scale.svg", "Seconds a step against batch size and resolution, and memory", known)
    return drawing + "\n\n" + table(header, rows)


def memory(known: Results) -> str:
    """Activations of whole pipelines."""
    if "memory" not in known:
        return NOT_YET
    found: dict[str, dict[str, int]] = known["memory"]["activations"]
    contenders = next(iter(found.values()))
    rows = [[one, *(f"{pipe[one] / 2**20:.1f}" for pipe in found.values())] for one in contenders]
    return table((f"MiB, one image of {known['memory']['size']}²", *(MODELS[name] for name in found)), rows)


def layers(known: Results) -> str:
    """What several perturbed layers cost."""
    if "layers" not in known:
        return NOT_YET
    found: Result = known["layers"]["networks"]
    rows = [
        [name, str(several["layers"]), f"{several['executed']:.2f}", f"{several['floor']:.2f}"]
        for name, network in found.items()
        for several in network["several"]
    ]
    size = known["layers"]["size"]
    drawing = _figure("cost-layers.svg", "Extra forwards against the layer, and forwards against their number", known)
    return (
        drawing
        + "\n\n"
        + table((f"counted at {size}²", "perturbed layers", "forwards a step, CFG + PAG", "the least"), rows)
    )


def faster(known: Results) -> str:
    """Time of whole runs with cheaper guidance against those with CFG alone."""
    runs = [one for one in (*contests(known, "cpu"), *contests(known, "cuda")) if any(map(_cheaper, one["contenders"]))]
    rows = [
        [what(run), one["by"].removeprefix("here, "), _ratio(one, find(run, CFG))]
        for run in runs
        for one in run["contenders"]
        if one["kind"] == BOTH
    ]
    return table(("", "CFG + PAG", "against CFG alone"), rows) if rows else NOT_YET


def _cheaper(one: Result) -> bool:
    return not one["exact"]


def fidelity(known: Results) -> str:
    """Every method with every scheduler, a table for each number of steps."""
    tables = [one for steps in STEPS if (one := _fidelity_table(known, steps))]
    if not tables:
        return NOT_YET
    drawing = _figure("cost-fidelity.svg", "PSNR against forwards a step", known)
    return "\n\n".join((drawing, *tables, _origin(known, _is_of("fidelity"))))


def _fidelity_table(known: Results, steps: int) -> str:
    found = by_scheduler(known, "fidelity", steps)
    rows = []
    for name in METHODS:
        each = [one["methods"].get(name) for one in found.values()]
        if measured := [one for one in each if one]:
            far = [summary(one)["perceptual"] for one in measured if one["perceptual"]]
            worst = "∞" if name == EXACT else f"{min(min(one['psnr']) for one in measured):.1f}"
            rows.append([name, *(_closeness(name, one) for one in each), worst])
            rows[-1].append(f"{statistics.mean(far):.4f}" if far else "not measured")
    return table((_of(steps, found), *found, "worst image", "perceptual"), rows) if rows else ""


def _closeness(name: str, method: Result | None) -> str:
    """Mean distance to the exact images, and forwards a step."""
    if method is None:
        return ""
    closeness = "∞" if name == EXACT else f"{summary(method)['psnr']:.1f}"
    return f"{closeness} ({method['forwards']:.2f})"


def _of(steps: int, found: dict[str, Result]) -> str:
    images = " or ".join(map(str, sorted({one["images"] for one in found.values()})))
    return f"{steps} steps, {images} images"


def quality(known: Results) -> str:
    """Fréchet distance and attributes, a table for each number of steps."""
    tables = [one for steps in STEPS if (one := _quality_table(known, steps))]
    if not tables:
        return NOT_YET
    drawing = _figure("cost-quality.svg", "Fréchet distance and attributes against forwards a step", known)
    return "\n\n".join((drawing, *tables, _origin(known, _is_of("quality"))))


def _quality_table(known: Results, steps: int) -> str:
    found = by_scheduler(known, "quality", steps)
    if not found:
        return ""
    rows = [[name, *(_judged(one["methods"][name]) for one in found.values())] for name in JUDGED]
    rows.append(["real images", *(f"{one['real']:.1f}" for one in found.values())])
    return table((_of(steps, found), *found), rows)


def _judged(method: Result) -> str:
    return f"{method['distance']:.1f}, {method['attributes']:.1%}"


def _is_of(part: str) -> Callable[[Result], bool]:
    return lambda one: one["name"].startswith(part)


def _figure(name: str, text: str, known: Results) -> str:
    return f"![{text}](../{IMAGES}/{name})" if name in drawn(known) else NOT_YET


def _ratio(ours: Result | None, theirs: Result | None) -> str:
    if not (ours and theirs and ours["seconds"] and theirs["seconds"]):
        return ""
    time, counted = median(ours, 1) / median(theirs, 1), ours["operations"] / theirs["operations"]
    return f"**{time:.2f}** ({counted:.2f} counted)"


def _details(found: list[Result]) -> str:
    return "\n\n".join(f"**{what(one)}**\n\n{_detail(one)}" for one in found)


def _detail(result: Result) -> str:
    steps, batch = result["steps"], result["batch"]
    allocated = any("allocated" in one for one in result["contenders"])
    header = ["", "seconds a step", "least to most", "operations, 10¹²", "above the least"]
    rows = []
    for one in result["contenders"]:
        name = ", ".join(filter(None, (one["kind"], one["by"])))
        if "failed" in one:
            rows.append([name, f"fails: {one['failed']}", *[""] * (len(header) - 2 + allocated)])
            continue
        times = [value / steps for value in one["seconds"]]
        least = _least(result, one)
        operations = one["operations"] / steps / batch / 1e12
        row = [name, f"{median(one, steps):.3f}", f"{min(times):.3f} to {max(times):.3f}", f"{operations:.3f}", least]
        rows.append(row + ([f"{max(one['allocated']) / 2**20:.0f}"] if allocated else []))
    return table([*header, "allocated, MiB"] if allocated else header, rows)


def _least(result: Result, one: Result) -> str:
    """How far the operations of a contender are above the least that exact arithmetic allows."""
    counted = result["costs"].get(one["kind"])
    if counted is None or _cheaper(one) or result["model"] in ("guiders", "avatars"):
        return ""  # not the same image, or the pipeline runs more than is counted
    least = counted["forward"] * counted["floor"] * result["batch"] * result["steps"]
    return f"{one['operations'] / least - 1:+.1%}"


def _origin(known: Results, keep: Callable[[Result], bool]) -> str:
    """Where results come from."""
    found = [one for one in known.values() if keep(one)]
    if not found:
        return NOT_YET
    commits = ", ".join(sorted({f"`{one['commit'][:10]}`" + ("*" if one["uncommitted"] else "") for one in found}))
    dates = sorted(one["date"][:10] for one in found)
    versions = found[0]["versions"]
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    where = " and ".join(sorted({_machine(one["machine"]) for one in found}))
    starred = " (*: with changes that were not committed)" if "*" in commits else ""
    return (
        f"Measured {when} at commit {commits}{starred} on {where}; torch "
        f"{versions['torch']}, diffusers {versions['diffusers']}."
    )


def _machine(about: Result) -> str:
    if "gpu" in about:
        return about["gpu"]
    return f"{about['processor']} ({about['cores']} cores, {about['threads']} threads, {about['memory in GiB']} GiB)"


SECTIONS: dict[str, Callable[[Results], str]] = {
    "overview": overview,
    "details": details,
    "gpu": gpu,
    "scale": scale,
    "memory": memory,
    "layers": layers,
    "faster": faster,
    "fidelity": fidelity,
    "quality": quality,
}

if __name__ == "__main__":
    write(record.RESULTS, DOCS)
