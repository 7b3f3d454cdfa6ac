"""Bad input is answered with one line on stderr and exit code 2; nothing is left behind."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.cli.conftest import Run

BAD_OPTIONS = {
    "unknown layer": (("--layers", "middle"), "'middle' matches nothing"),
    "nan layer index": (("--layers", "d99"), "d1 = down_blocks.1"),
    "negative scale": (("--pag-scale", "-1"), "-1 is not a finite number, 0 or more"),
    "nan scale": (("--pag-scale", "nan"), "nan is not a finite number"),
    "infinite scale": (("--guidance-scale", "inf"), "inf is not a finite number"),
    "scale as text": (("--pag-scale", "three"), "Invalid value for '--pag-scale'"),
    "start beyond 1": (("--pag-start", "1.5"), "1.5 is not a number from 0 to 1"),
    "start after stop": (("--pag-start", "0.9", "--pag-stop", "0.2"), "--pag-start 0.9 must be below --pag-stop 0.2"),
    "unknown scheduler": (("--scheduler", "eulr"), "unknown scheduler 'eulr'. There is: euler,"),
    "no images": (("--num", "0"), "Invalid value for '--num'"),
    "no steps": (("--steps", "0"), "Invalid value for '--steps'"),
    "too many steps": (("--steps", "5000"), "the model refuses these settings"),
    "negative seed": (("--seed", "-1"), "Invalid value for '--seed'"),
    "odd size": (("--width", "33"), "--width 33 must be a multiple of 2 for this model, for example 32 or 34"),
    "unknown dtype": (("--dtype", "float8"), "unknown dtype 'float8'. There is: float"),
    "unknown device": (("--device", "tpu"), "no device 'tpu' here. There is:"),
    "unknown option": (("--scale", "3"), "No such option"),
}


def assert_refused(result: object, message: str) -> None:
    exit_code, stdout, stderr = (getattr(result, name) for name in ("exit_code", "stdout", "stderr"))
    assert exit_code == 2, stderr
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options(run: Run, model: Path, tmp_path: Path, options: tuple[str, ...], message: str):
    assert_refused(run("generate", "a", "-m", model, *options), message)
    assert list(tmp_path.iterdir()) == []


BAD_COMPARISONS = {
    "no prompt": ((), "name at least one prompt"),
    "two sweeps": (("a", "--scales", "1", "--sweep-layers", "m0"), "give one of them"),
    "not a scale": (("a", "--scales", "1,x"), "'1,x' is not a list of numbers"),
    "nan scale": (("a", "--scales", "1,nan"), "nan is not a finite number"),
    "unknown layer": (("a", "--sweep-layers", "m0,zz"), "'zz' matches nothing"),
    "tiny cells": (("a", "--cell", "3"), "Invalid value for '--cell'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_COMPARISONS.values(), ids=BAD_COMPARISONS)
def test_bad_comparisons(run: Run, model: Path, tmp_path: Path, arguments: tuple[str, ...], message: str):
    assert_refused(run("compare", "-m", model, *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_none(run: Run, model: Path, tmp_path: Path):
    def spoiled(name: str, file: str, content: str | None) -> str:
        shutil.copytree(model, tmp_path / name)
        (tmp_path / name / file).unlink() if content is None else (tmp_path / name / file).write_text(content)
        return name

    (tmp_path / "empty").mkdir()
    index = json.loads((model / "model_index.json").read_text())
    for name, message in {
        "nothing/here/at/all": "it is not a folder here",
        "empty": "it has no model_index.json",
        __file__: "is a file",
        spoiled("json", "model_index.json", "{"): "cannot load json",
        spoiled("config", "unet/config.json", "{"): "cannot load config",
        spoiled("weights", "unet/diffusion_pytorch_model.safetensors", "no tensors"): "cannot load weights",
        spoiled("missing", "vae/diffusion_pytorch_model.safetensors", None): "cannot load missing",
        spoiled(
            "other", "model_index.json", json.dumps(index | {"_class_name": "FluxPipeline"})
        ): "it is a FluxPipeline",
    }.items():
        assert_refused(run("generate", "a", "-m", name), message)
    assert not (tmp_path / "images").exists()
    assert_refused(run("layers", "config"), "cannot read the configuration of the network of config")
    assert_refused(run("layers", "empty"), "it has no model_index.json")


def test_output_that_cannot_be_written_is_found_before_the_model_is_loaded(run: Run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for command in ("generate", "compare"):
        result = run(command, "a", "-m", "no/model", "--out", "file/images")
        assert_refused(result, "cannot write to file/images: not a directory")
        assert_refused(run(command, "a", "-m", "no/model", "--out", "/proc/pag"), "cannot write to /proc/pag")
    assert_refused(run("compare", "a", "--out", "folder.png"), "--out folder.png is a folder")
    assert (tmp_path / "file").read_text() == ""


def test_a_disk_that_fills_up_leaves_the_old_file(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(self: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "images").mkdir()
    (tmp_path / "images/seed-000000.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", full)
    result = run("generate", "a", "-m", model, "--steps", 1)
    assert_refused(result, "cannot write images/seed-000000.png: no space left on device")
    assert [path.read_text() for path in (tmp_path / "images").iterdir()] == ["old"]


def test_files_without_settings(run: Run, tmp_path: Path):
    def png(name: str, text: str | None) -> str:
        chunk = PngImagePlugin.PngInfo()
        if text is not None:
            chunk.add_text("pag", text)
        Image.new("RGB", (2, 2)).save(tmp_path / name, pnginfo=chunk)
        return name

    (tmp_path / "text.png").write_text("text")
    (tmp_path / "cut.png").write_bytes((tmp_path / png("whole.png", "{}")).read_bytes()[:20])
    for name, message in {
        "nothing.png": "cannot read nothing.png: no such file",
        ".": "cannot read .: is a directory",
        "text.png": "cannot read text.png: it is not a PNG file",
        "cut.png": "cut.png",
        png("bare.png", None): "carries no settings",
        png("odd.png", "{"): "the settings in odd.png cannot be read",
        png("list.png", "[]"): "list.png",
        png("less.png", '{"prompt": "a"}'): "missing",
        png("more.png", '{"prompt": "a", "sleep": 3}'): "unknown setting 'sleep'",
        png("kind.png", '{"prompt": 3, "seed": 0}'): "kind.png",
    }.items():
        assert_refused(run("info", name), message)


def test_a_file_from_elsewhere_does_not_drive_the_terminal(run: Run, model: Path):
    assert run("generate", "a \x1b[31m", "-m", model, "--num", 1, "--steps", 1).exit_code == 0
    assert "\x1b[31m" not in run("info", "images/seed-000000.png").stdout


def test_a_bug_is_not_dressed_up_as_bad_input(run: Run, monkeypatch: pytest.MonkeyPatch):
    def bug(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pag.cli.info.read_settings", bug)
    assert isinstance(run("info", "x.png").exception, ZeroDivisionError)


@pytest.mark.parametrize("width", [80])
def test_help_fits_a_screen_and_its_examples_parse(run: Run, monkeypatch: pytest.MonkeyPatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (["--help"], []):
        lines = run(*arguments).stdout.rstrip("\n").split("\n")
        assert len(lines) <= 23
        assert max(map(len, lines)) <= width
    examples = [line.strip() for line in lines if line.strip().startswith("pag ")]
    assert len(examples) == 2


def test_version(run: Run):
    import pag

    assert run("--version").stdout == f"pag {pag.__version__}\n"
