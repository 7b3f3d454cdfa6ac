"""Every part of the benchmark runs, tiny, and the page of the documentation tells the committed results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import chosen, contest, fidelity, figures, judge, page, plot, record
from benchmarks.operations import Operations
from benchmarks.subject import Setting

KINDS = ("sd15-256-1", "controlnet-256-1", "pixart-256-1", "guiders-256-1", "avatars-run")
COUNTED = ("layers", "sizes", "memory", "fidelity-ddim-10")
GPU = tuple(f"{name}-1024-1-cuda" for name in ("sdxl", "sd35", "flux"))
"""One part of each kind; those for a GPU are tried on the CPU."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tiny networks give."""
    folder = tmp_path_factory.mktemp("results")
    command.main([*KINDS, *COUNTED, *GPU, "--small", "--results", str(folder)])
    return record.read(folder)


def test_every_part_runs(results: dict[str, Any]):
    assert results.keys() == {*KINDS, *COUNTED, *GPU}
    for one in results.values():
        assert {"commit", "date", "machine", "versions", "took"} <= one.keys()


def test_contenders(results: dict[str, Any]):
    found = results["sd15-256-1"]["contenders"]
    assert [(one["kind"], one["by"]) for one in found[2:4]] == [("PAG", "diffusers"), ("PAG", "here")]
    assert all(len(one["seconds"]) == 1 and one["operations"] > 0 for one in found)
    ours, theirs = (chosen.find(results["sd15-256-1"], contest.BOTH, by) for by in (chosen.OURS, chosen.PEERS))
    assert ours
    assert theirs
    assert ours["operations"] < theirs["operations"]


def test_activations_are_never_more_than_with_three_rows(results: dict[str, Any]):
    for found in results["memory"]["activations"].values():
        for kind in (contest.PAG, contest.BOTH):
            assert 0 < found[f"{kind}, here"] <= found[f"{kind}, diffusers"]


def test_cheaper_guidance_takes_part_in_a_whole_run(results: dict[str, Any]):
    found = {one["by"]: one["operations"] for one in results["avatars-run"]["contenders"]}
    assert found.keys() == {"", "here", *(f"here, {name}" for name in contest.FASTER)}
    assert all(found[f"here, {name}"] < found["here"] for name in contest.FASTER)


def test_a_page_of_these_results(results: dict[str, Any]):
    text = page.rendered((page.DOCS / page.PAGE).read_text(), results)
    for words in ("Stable Diffusion 1.5, 128², batch 1", "PixArt-Σ", "| fast | **", "MiB, one image", "Measured"):
        assert words in text
    assert set(figures.drawn(results)) == {"cost-scale.svg", "cost-layers.svg", "cost-fidelity.svg"}
    assert page.rendered(text, results) == text


def test_the_page_tells_the_committed_results():
    known = record.read(record.RESULTS)
    text = (page.DOCS / page.PAGE).read_text()
    assert page.rendered(text, known) == text
    for name, drawing in figures.drawn(known).items():
        assert (page.DOCS / page.IMAGES / name).read_text() == drawing


def test_contenders_that_differ_are_no_contest():

    one, other = (contest.Contender("PAG", by, lambda: torch.zeros(1)) for by in "ab")
    near, far = ({"PAG, a": torch.ones(2), "PAG, b": torch.ones(2) + error} for error in (1e-6, 1e-2))
    assert contest.compare([one, other], near, 1e-4)["PAG, b"] == pytest.approx(1e-6, rel=0.1)
    with pytest.raises(AssertionError, match="PAG, b is off"):
        contest.compare([one, other], far, 1e-4)


def test_attention_on_the_cpu_is_counted():

    q = torch.ones(1, 1, 8, 4)
    _, operations = contest.counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert operations == 2 * 2 * 8 * 8 * 4


@pytest.mark.parametrize("method", [fidelity.EXACT, fidelity.FAST])
def test_both_counters_agree(method: str):
    def run() -> torch.Tensor:
        return fidelity.latents(method, "ddim", 10, ["portrait"], 0)

    with torch.no_grad(), Operations() as operations:
        run()
    with torch.no_grad():
        assert contest.counted(run)[1] == operations.count


def test_names(tmp_path: Path):
    assert command.chosen(["sd15-*"], False)[0] == "sd15-256-1"
    with pytest.raises(SystemExit, match="No part is named 'sd16'"):
        command.chosen(["sd16"], False)
    with pytest.raises(SystemExit):
        command.main(["--small"])


def test_what_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured: list[bool] = []
    monkeypatch.setitem(command.PARTS, "part", lambda small: {"number": measured.append(small)})
    arguments = ["part", "--small", "--results", str(tmp_path)]
    command.main(arguments)
    command.main([*arguments, "--resume"])
    assert measured == [True]
    (tmp_path / "part.json").write_text(json.dumps(record.read(tmp_path)["part"] | {"commit": "another"}))
    command.main([*arguments, "--resume"])
    assert len(measured) == 2


def test_what_fails_does_not_keep_others_from_being_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(small: bool) -> dict[str, Any]:
        raise AssertionError("they differ")

    for name, part in {"bad": fails, "good": lambda small: {}}.items():
        monkeypatch.setitem(command.PARTS, name, part)
    with pytest.raises(SystemExit, match=r"Failed: bad\."):
        command.main(["bad", "good", "--small", "--results", str(tmp_path)])
    assert record.read(tmp_path).keys() == {"good"}


def test_what_fails_when_compiled_is_told(monkeypatch: pytest.MonkeyPatch):

    monkeypatch.setattr(nn.Module, "compile", lambda self, mode: None)
    runs = [0]

    def later() -> torch.Tensor:
        runs[0] += 1
        if runs[0] > 1:
            raise RuntimeError("no graph\nmore")
        return torch.ones(1)

    contenders = [contest.Contender("CFG", "", lambda: torch.ones(1)), contest.Contender("CFG", "other", later)]
    found = contest.measure(contest.Contest(nn.Linear(1, 1), contenders), Setting(), 2, "default")["contenders"]
    assert [len(one["seconds"]) for one in found] == [2, 0]
    assert found[1]["failed"] == "RuntimeError: no graph"
    result = {"model": "sd15", "steps": 1, "batch": 1, "size": 64, "compiled": "default", "costs": {}}
    assert "fails: RuntimeError: no graph" in page.details({"x": result | {"contenders": found, "device": "cpu"}})


def test_psnr():

    exact = torch.full((2, 3, 4, 4), 0.5)
    assert judge.psnr(torch.stack([exact[0], exact[1] + 0.1]), exact) == pytest.approx([99.0, 20.0], abs=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 7.3), (19.0, 51.6), (0.0, 0.013), (2.0, 2.0)])
def test_ticks_enclose(low: float, high: float):
    found = plot.ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 7


def test_a_plot_is_the_same_each_time():
    panel = plot.Panel("a < b", "x", "y", {"one": [(1, 2.0), (0, 1.0)]})
    assert plot.svg([panel]) == plot.svg([panel])
    assert "a &lt; b" in plot.svg([panel])
