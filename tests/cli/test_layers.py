import json
from pathlib import Path

import pytest

import pag
from tests import zoo
from tests.cli.conftest import Run


def test_layers_lists_every_name_and_cost(run: Run, model: Path):
    rows = json.loads(run("layers", model, "--json").stdout)
    assert [row["authors"] for row in rows] == ["d0", "d1", "m0", "u0", "u1", "u2", "u3"]
    middle = rows[2]
    assert middle["comfyui"] == "m0.0"
    assert middle["diffusers"] == "mid"
    assert middle["path"] == "mid_block.attentions.0.transformer_blocks.0.attn1"
    assert (middle["height"], middle["width"], middle["heads"]) == (zoo.SIZE // 4, zoo.SIZE // 4, 2)
    extras = [row["extra"] for row in rows]
    assert extras == sorted(extras, reverse=True)
    assert 0 < extras[-1] < extras[0] < 1
    assert all(row["extra_with_cfg"] < row["extra"] / 2 for row in rows), "the text comes late"


def test_the_table_tells_what_a_step_costs(run: Run, model: Path):
    output = run("layers", model).stdout
    network = zoo.unet()
    alone, both = pag.cost(network, cfg=False), pag.cost(network)
    assert f"{alone.executed:.2f} forward passes, and {both.executed:.2f} with CFG" in output
    assert "the least that exact arithmetic allows" in output
    extra = pag.layer_costs(network)[2].extra
    assert f"+{extra:.1%}" in output


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_the_terminal(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, width: int):
    monkeypatch.setattr("pag.cli.console.PIPE_WIDTH", width)
    result = run("layers", model)
    table = [line for line in result.stdout.splitlines() if ".attentions." in line or "%" in line]
    assert len(table) >= 7
    assert all(len(line.rstrip()) <= width for line in table if "%" in line)
    assert ("up_blocks.2.attentions.1.transformer_blocks.0.attn1" in result.stdout) == (width == 160)
    assert "…" not in result.stdout


def test_only_the_configuration_is_read(run: Run, model: Path, tmp_path: Path):
    (tmp_path / "bare/unet").mkdir(parents=True)
    (tmp_path / "bare/model_index.json").write_text("{}")
    (tmp_path / "bare/unet/config.json").write_text((model / "unet/config.json").read_text())
    assert run("layers", "bare", "--json").stdout == run("layers", model, "--json").stdout


def test_a_class_stands_for_its_default_configuration(run: Run):
    rows = json.loads(run("layers", "SD3Transformer2DModel", "--json").stdout)
    assert [row["block"] for row in rows] == [str(index) for index in range(18)]
    assert [row["block"] for row in rows if row["recommended"]] == ["9"]
    extras = [row["extra"] for row in rows]
    assert extras == sorted(extras, reverse=True)
    table = run("layers", "FluxTransformer2DModel").stdout
    assert "single.37" in table
    assert "Recommended, and what you get without choosing: double." in table


@pytest.mark.parametrize("name", ["UNet2DConditionModel", "UNet2DModel"])
def test_a_class_without_a_default_size_gets_one(run: Run, name: str):
    assert json.loads(run("layers", name, "--json").stdout)[0]["extra"] > 0


def test_a_wrong_name_is_answered_with_the_nearest(run: Run):
    result = run("layers", "FluxTransformerModel")
    assert result.exit_code != 0
    assert "Nearest classes: FluxTransformer2DModel" in " ".join(result.stderr.split())
