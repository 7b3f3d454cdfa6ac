import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pag.generate import Comparison, Sampling
from pag.generate.grid import Grid, Label, draw_grid, enlarge
from tests.cli.conftest import Run

HOW = Sampling(
    model="owner/name",
    guidance_scale=5.0,
    pag_scale=3.0,
    layers="mid",
    steps=25,
    scheduler="ddim",
    width=64,
    height=64,
)


def texts(comparison: Comparison) -> tuple[list[str], list[str]]:
    return [label.text for label, _ in comparison.columns], [label.text for label, *_ in comparison.rows]


def test_columns_are_guidance_on_and_off():
    comparison = Comparison(prompts=("a", "b"), seed=3, num=1, sampling=HOW)
    assert texts(comparison) == (["no guidance", "PAG", "CFG", "CFG + PAG"], ["“a”", "“b”"])
    assert [(how.guidance_scale, how.pag_scale) for _, how in comparison.columns] == [(0, 0), (0, 3), (5, 0), (5, 3)]
    assert comparison.title == ""
    assert comparison.caption == "PAG at mid · seed 3 · 25 steps · ddim · owner/name model"


def test_columns_that_repeat_another_are_left_out():
    without = replace(HOW, guidance_scale=1.0)
    assert texts(Comparison(prompts=("a",), seed=0, num=1, sampling=without))[0] == ["no guidance", "PAG"]


def test_scales_layers_and_seeds():
    scales = Comparison(prompts=("a",), seed=3, num=2, scales=(0.0, 1.5), sampling=HOW)
    assert texts(scales) == (["s = 0", "s = 1.5"], ["seed 3", "seed 4"])
    assert scales.title == "“a”"
    layers = Comparison(prompts=("a", ""), seed=3, num=1, sweep_layers=("m0", "d0"), sampling=HOW)
    assert texts(layers) == (["no PAG", "m0", "d0"], ["“a”", "empty prompt"])
    assert [how.layers for _, how in layers.columns] == ["mid", "m0", "d0"]


@pytest.mark.parametrize(
    "more", [{}, {"scales": (0.0, 1.0 / 3)}, {"sweep_layers": ("m0", "u0.0")}, {"cell": 64}], ids=str
)
def test_settings_survive_json(more: dict[str, object]):
    comparison = Comparison(prompts=("a", "b, c"), seed=3, num=2, sampling=HOW, **more)  # pyright: ignore
    assert Comparison.from_json(json.loads(json.dumps(comparison.to_json()))) == comparison


def solid(colour: tuple[int, int, int], size: tuple[int, int] = (40, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_images_stand_in_rows_and_columns_under_their_labels():
    red, green, blue, black = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)
    cells = [[solid(red), solid(green)], [solid(blue), solid(black)]]
    labels = [Label("one", "s = 1"), Label("two")]
    grid = draw_grid(Grid(columns=labels, rows=labels, cells=cells, title="title", caption="caption"), cell=80)
    found = {colour: np.argwhere((np.asarray(grid) == colour).all(-1)) for colour in (red, green, blue)}
    assert {colour: len(places) for colour, places in found.items()} == dict.fromkeys(found, 80 * 40)
    (red_y, red_x), (green_y, green_x), (blue_y, blue_x) = (places.min(0) for places in found.values())
    assert red_y == green_y < blue_y
    assert red_x == blue_x < green_x
    paper = np.asarray(grid.convert("L"))
    assert paper[:red_y, red_x:].min() < 60, "no column labels"
    assert paper[red_y : red_y + 40, :red_x].min() < 60, "no row label"
    assert (paper[:8] == 255).all()
    assert (paper[:, -8:] == 255).all()


def test_long_prompts_are_wrapped_and_shown_whole():
    short, long = (
        draw_grid(Grid(columns=[Label("x")], rows=[Label(text)], cells=[[solid((9, 9, 9))]]), cell=128)
        for text in ("word", "many long words " * 4 + "w" * 60)
    )
    assert long.width < short.width + 128
    assert np.asarray(long).min() < 60


def test_small_images_keep_their_pixels_and_large_ones_are_resampled():
    tiny = solid((0, 0, 0), (2, 2))
    tiny.putpixel((0, 0), (255, 255, 255))
    assert set(np.asarray(enlarge(tiny, 8)).ravel().tolist()) == {0, 255}
    assert enlarge(solid((0, 0, 0), (64, 32)), 200).size == (200, 100)


def test_compare_draws_and_its_command_repeats(run: Run, model: Path, tmp_path: Path):
    result = run("compare", "a", "b", "-m", model, "--steps", 2, "--cell", 64, "--out", "grids")
    assert result.stdout.split() == ["grids/compare.png"]
    record = json.loads(run("info", "grids/compare.png", "--json").stdout)
    assert record["prompts"] == ["a", "b"]
    _, command, *arguments = record["command"].split()
    assert run(command, *arguments, "--out", "again.png").exit_code == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grids/compare.png").read_bytes()


def test_sweeps(run: Run, model: Path):
    fast = ("-m", model, "--steps", 1, "--num", 1, "--cell", 32)
    assert run("compare", "a", *fast, "--scales", "0, 1.5").exit_code == 0
    assert "--scales 0,1.5" in run("info", "compare.png").stdout
    assert run("compare", "a", *fast, "--sweep-layers", "m0,d0.0").exit_code == 0
    assert "--sweep-layers m0,d0.0" in run("info", "compare.png").stdout
