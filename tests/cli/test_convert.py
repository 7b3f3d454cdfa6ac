import json
from pathlib import Path

import pytest

from tests.adm import files
from tests.cli.conftest import Run
from tests.cli.test_errors import assert_refused

OPTIONS = [text for name, value in files.SETTINGS.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def test_a_checkpoint_becomes_a_folder_whose_layers_are_listed(run: Run, tmp_path: Path):
    files.save(files.unet(), tmp_path / "unet.pt")
    files.save(files.classifier(), tmp_path / "judge.pt")
    judge = ("--classifier", "judge.pt", "--classifier-head-channels", 16)
    result = run("convert", "adm", "unet.pt", "--out", "models/tiny", *OPTIONS, *judge)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("models/tiny: ADMUNet of ")
    assert "M parameters, 16x16, 7 classes, with a classifier" in result.stdout
    assert json.loads((tmp_path / "models/tiny/classifier/config.json").read_text())["num_classes"] == 7
    rows = json.loads(run("layers", "models/tiny", "--json").stdout)
    assert [row["original"] for row in rows] == [
        "input_blocks.1.1",
        "input_blocks.3.1",
        "middle_block.1",
        *(f"output_blocks.{block}.1" for block in range(4)),
    ]
    assert [row["recommended"] for row in rows] == [True] * 3 + [False] * 4
    assert all(0 < row["extra"] < 1 for row in rows)
    table = run("layers", "models/tiny").stdout
    assert "input_blocks.3.1" in table
    assert "what you get without choosing: input_blocks.1.1, input_blocks.3.1, middle_block.1." in table


def test_what_the_weights_do_not_tell_is_asked_for(run: Run, tmp_path: Path):
    files.save(files.unet(), tmp_path / "unet.pt")
    options = "--image-size, --heads or --head-channels, --attention-order, --noise-schedule"
    assert_refused(run("convert", "adm", "unet.pt", "--out", "out"), f"do not tell all: say {options}, as the model")
    assert_refused(run("convert", "adm", "unet.pt", "--out", "out", *OPTIONS[:4]), "say --attention-order, --noise-")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_replaced_with_force_alone(run: Run, tmp_path: Path):
    files.save(files.unet(), tmp_path / "unet.pt")
    command = ("convert", "adm", "unet.pt", "--out", "out", *OPTIONS)
    assert run(*command).exit_code == 0
    assert_refused(run(*command), "out exists: give another folder, or --force to replace it")
    assert run(*command, "--force", "--dtype", "float16").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "unet.pt"]


def test_an_upsampler_is_told_to_be_one(run: Run, tmp_path: Path):
    files.save(files.unet(in_channels=6), tmp_path / "unet.pt")
    assert "an upsampler's ADMUNet" in run("convert", "adm", "unet.pt", "--out", "out", *OPTIONS).stdout


@pytest.mark.parametrize("name", files.BAD)
def test_bad_files_are_refused_in_a_line(run: Run, tmp_path: Path, name: str):
    file, make, message = files.BAD[name]
    make(tmp_path / file)
    before = sorted(tmp_path.iterdir())
    assert_refused(run("convert", "adm", file, "--out", "out", *OPTIONS), message)
    assert sorted(tmp_path.iterdir()) == before


BAD_OPTIONS = {
    "no size": (("--image-size", "0"), "Invalid value for '--image-size'"),
    "order": (("--attention-order", "old"), "Invalid value for '--attention-order'"),
    "schedule": (("--noise-schedule", "sqrt"), "Invalid value for '--noise-schedule'"),
    "precision": (("--dtype", "float8"), "unknown dtype 'float8'. There is: float"),
    "heads": (("--heads", "5"), "32 channels of an attention layer are not divisible into 5 heads"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(run: Run, tmp_path: Path, name: str):
    given, message = BAD_OPTIONS[name]
    files.save(files.unet(), tmp_path / "unet.pt")
    assert_refused(run("convert", "adm", "unet.pt", "--out", "out", *OPTIONS, *given), message)
    assert not (tmp_path / "out").exists()
