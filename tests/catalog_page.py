"""Writes `docs/pipelines.md` and `src/pag/assets/pipelines.json`: `python -m tests.catalog_page`.

Every pipeline class of the installed diffusers that is not deprecated is judged by what the tests show.
"""

import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline

from pag import families
from pag.catalog import Entry

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "src" / "pag" / "assets" / "pipelines.json"
PAGE = ROOT / "docs" / "pipelines.md"

NOTHING = {
    "FluxPriorReduxPipeline": "it embeds images and denoises nothing",
    "KandinskyPriorPipeline": "its prior predicts one token, the embedding of an image",
    "KandinskyV22PriorPipeline": "its prior predicts one token, the embedding of an image",
    "KandinskyV22PriorEmb2EmbPipeline": "its prior predicts one token, the embedding of an image",
    "LTXLatentUpsamplePipeline": "its network is convolutional and takes one step",
    "LTX2LatentUpsamplePipeline": "its network is convolutional and takes one step",
    "OnnxStableDiffusionPipeline": "its network is an ONNX graph, which torch cannot step into",
    "OnnxStableDiffusionImg2ImgPipeline": "its network is an ONNX graph, which torch cannot step into",
    "OnnxStableDiffusionInpaintPipeline": "its network is an ONNX graph, which torch cannot step into",
    "OnnxStableDiffusionUpscalePipeline": "its network is an ONNX graph, which torch cannot step into",
    "ShapEImg2ImgPipeline": "its prior predicts the weights of a small network that draws a shape",
    "ShapEPipeline": "its prior predicts the weights of a small network that draws a shape",
    "StableDiffusionOnnxPipeline": "its network is an ONNX graph, which torch cannot step into",
}
"""Pipelines without a denoiser, or without tokens that attend to one another."""

REFUSED = {
    "ConsisIDPipeline": "it needs opencv, without which it was not tried",
    "DiffusionGemmaPipeline": "it denoises words, with a language model that is not diffusers' own",
    "LLaDA2Pipeline": "it denoises words, with a language model that is not diffusers' own",
    "LTX2VideoDiffusionDecodePipeline": "it decodes: its network takes all steps inside one call",
}
"""Pipelines that cannot be guided, or that nobody has tried, beyond those that `pag.families.REFUSED` tells."""


def pipeline_classes() -> dict[str, Any]:
    """All pipeline classes that are not deprecated, by name; those whose packages are not installed are stand-ins."""
    found: dict[str, Any] = {}
    for name in dir(diffusers):
        if name.endswith("Pipeline") and name not in ("DiffusionPipeline", "ModularPipeline") and "Modular" not in name:
            cls = getattr(diffusers, name)
            if (_is_pipeline(cls) or hasattr(cls, "_backends")) and not _is_deprecated(name, cls):
                found[name] = cls
    return found


def _is_pipeline(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, DiffusionPipeline)


def _is_deprecated(name: str, cls: Any) -> bool:
    folder = Path(diffusers.__file__).parent / "pipelines" / "deprecated"
    stand_in = not _is_pipeline(cls) and any(f"class {name}(" in file.read_text() for file in folder.rglob("*.py"))
    return ".deprecated." in cls.__module__ or hasattr(cls, "_last_supported_version") or stand_in


def denoisers_of(cls: Any) -> tuple[str, ...]:
    """Class names of the denoisers that a pipeline's constructor asks for."""
    if not _is_pipeline(cls):
        return ()
    parameters = inspect.signature(cls.__init__).parameters
    annotations = [str(parameters[name].annotation) for name in families.DENOISERS if name in parameters]
    # Of several classes the last is the one that samples: the first is what it is made from.
    names = [re.findall(r"\b([A-Z]\w*(?:Model|UNet|Transformer)\w*)\b", text)[-1:] for text in annotations]
    return tuple(dict.fromkeys(name for found in names for name in found))


def judge(name: str, cls: Any, runs: Iterable[str]) -> Entry | None:
    """The judgement of a class, or None if there is none."""
    denoiser = denoisers_of(cls)
    if name in NOTHING:
        return Entry(name, "nothing", NOTHING[name], denoiser=denoiser)
    if hasattr(cls, "_apply_perturbed_attention_guidance"):
        because = "it adds perturbed rows itself; the class of the same name here does it at a lower cost"
        return Entry(name, "refused", because, name, denoiser)
    refused = REFUSED.get(name) or next((why for one in denoiser if (why := families.REFUSED.get(one))), None)
    if refused:
        return Entry(name, "refused", refused, denoiser=denoiser)
    shown = next((run for run in runs if run.partition(":")[0] == name), None)
    if shown is None:
        return None
    bases = [base for one in denoiser for base in _bases(one)]
    family = next(family for base in bases for family in families.FAMILIES if base in family.models)
    test = f"tests/test_runs.py::test_a_run_gives_the_formula[{shown}]"
    return Entry(name, "works", test, drop_in(name), denoiser, family.layers, family.scale, family.source)


def _bases(name: str) -> list[str]:
    """The name of a class of diffusers and those of its bases, nearest first."""
    return [base.__name__ for base in getattr(diffusers, name).__mro__]


def drop_in(name: str) -> str:
    """The name of the class with guidance built in."""
    return name.removesuffix("Pipeline") + "PAGPipeline"


def judgements() -> tuple[list[Entry], list[str]]:
    """All entries, and the names of classes that nobody has judged."""
    from tests.runs import RUNS

    judged = {name: judge(name, cls, RUNS) for name, cls in pipeline_classes().items()}
    entries = [entry for entry in judged.values() if entry is not None]
    return entries, [name for name, entry in judged.items() if entry is None]


def record(entries: list[Entry]) -> str:
    """The text of `pipelines.json`."""
    values = {"diffusers": diffusers.__version__, "pipelines": [asdict(entry) for entry in entries]}
    return json.dumps(values, indent=1) + "\n"


def page(entries: list[Entry]) -> str:
    """The text of `pipelines.md`."""
    counts = Counter(entry.verdict for entry in entries)
    guidable = [entry for entry in entries if entry.verdict == "works"]
    lines = [
        "# Pipelines",
        "",
        f"Every pipeline class of diffusers {diffusers.__version__} that is not deprecated, {len(entries)} in all: "
        f"{counts['works']} work, each shown by a whole run on a tiny random model that gives what separate forwards "
        f"and the formula give; {counts['refused']} are refused with an error; {counts['nothing']} have nothing to "
        "perturb. "
        "The same list is printed by `pag pipelines`.",
        "",
        "A recommended layer that is given as a depth is the self-attention layer that far into the network. Where no "
        "setting was published, the table says so: those are starting points. The run that shows a pipeline is "
        "`tests/test_runs.py::test_a_run_gives_the_formula[NAME]` with its name; more runs of it are `[NAME: also]`.",
        "",
        "## Works",
        "",
        "| pipeline | drop-in class | denoiser | layers | scale | source of the recommendation | also run |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{entry.pipeline}` | `{entry.drop_in}` | {_codes(entry.denoiser)} | {_layers(entry)} | {entry.scale:g} "
        f"| {entry.source} | {_also(entry.pipeline)} |"
        for entry in guidable
    ]
    for title, verdict in (("Refused", "refused"), ("Nothing to perturb", "nothing")):
        lines += ["", f"## {title}", "", "| pipeline | why |", "|---|---|"]
        lines += [f"| `{entry.pipeline}` | {entry.because} |" for entry in entries if entry.verdict == verdict]
    return "\n".join(lines) + "\n"


def _also(name: str) -> str:
    from tests.runs import RUNS

    return "; ".join(
        note.strip() for run in RUNS for pipeline, _, note in [run.partition(":")] if note and pipeline == name
    )


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _layers(entry: Entry) -> str:
    return f"{entry.layers:.0%} deep" if isinstance(entry.layers, float | int) else _codes(entry.layers or ())


def main() -> None:
    """Write both files; say which classes are not judged."""
    entries, missing = judgements()
    RECORD.write_text(record(entries))
    PAGE.write_text(page(entries))
    if missing:
        sys.exit(f"Not judged: {', '.join(missing)}")


if __name__ == "__main__":
    main()
