import json
from pathlib import Path

import pytest

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
