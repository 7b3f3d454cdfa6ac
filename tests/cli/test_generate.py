import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pag.forward import GuidedForward
from pag.generate.schedulers import scheduler_names
from pag.reuse import Deltas
from tests import zoo
from tests.cli.conftest import Run

FAST = ("--steps", 2)


def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.int16]]":
    return np.asarray(Image.open(path)).astype(np.int16)


def test_files_are_named_by_seed_and_carry_their_settings(run: Run, model: Path, tmp_path: Path):
    result = run("generate", "a b", "-m", model, "--num", 2, "--seed", 7, "--out", "new/folder", *FAST)
    assert result.exit_code == 0
    assert result.stdout.split() == ["new/folder/seed-000007.png", "new/folder/seed-000008.png"]
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == ["seed-000007.png", "seed-000008.png"]
    with Image.open(tmp_path / "new/folder/seed-000008.png") as image:
        assert image.size == (32, 32)
        record = json.loads(image.text["pag"])  # pyright: ignore[reportAttributeAccessIssue]
        prose = image.text["parameters"]  # pyright: ignore[reportAttributeAccessIssue]
    assert (record["prompt"], record["seed"], record["steps"], record["scheduler"]) == ("a b", 8, 2, "ddim")
    assert prose.startswith("a b\n")
    assert "pag scale: 3.0" in prose


def test_an_image_depends_on_its_seed_alone(run: Run, model: Path, tmp_path: Path):
    for out, *how in (("three", "--num", 3), ("one", "--num", 1, "--seed", 2), ("batch", "--num", 3, "--batch", 3)):
        assert run("generate", "a", "-m", model, "--out", out, *how, *FAST).exit_code == 0
    three, one, batch = (pixels(tmp_path / out / "seed-000002.png") for out in ("three", "one", "batch"))
    assert np.array_equal(three, one)
    assert np.abs(three - batch).max() <= 1
    assert not np.array_equal(three, pixels(tmp_path / "three" / "seed-000001.png"))


HOW = {
    "plain": ("a", ()),
    "quotes": ('it\'s "a" grüß 猫\n$x', ("-s", 0, "-g", 0)),
    "dashes": ("--num", ()),
    "everything": (
        "a b",
        (
            *("-s", 2.125, "-g", 1.7, "--layers", "d0,u1.0", "--negative", "b; 'c' $d", "--adaptive-scale", 1e-3),
            *("--pag-start", 0.1, "--pag-stop", 0.9, "--scheduler", "Euler a", "--width", 24, "--height", 40),
            *("--dtype", "bfloat16", "--device", "cpu"),
        ),
    ),
}


@pytest.mark.parametrize(("prompt", "how"), HOW.values(), ids=HOW)
def test_the_command_of_info_draws_the_same_image(
    run: Run, model: Path, tmp_path: Path, prompt: str, how: tuple[object, ...]
):
    first = run("generate", "-m", model, "--num", 2, "--seed", 4, "--out", "first", *FAST, *how, "--", prompt)
    assert first.exit_code == 0, first.output
    command = run("info", "first/seed-000005.png").stdout.split("\n\n", 1)[1]
    program, *arguments = shlex.split(command)
    assert program == "pag"
    # The new option comes first, since what follows "--" is no option.
    assert run(arguments[0], "--out", "again", *arguments[1:]).stdout.split() == ["again/seed-000005.png"]
    first_file, again = (tmp_path / name / "seed-000005.png" for name in ("first", "again"))
    assert first_file.read_bytes() == again.read_bytes()


def test_every_scheduler_name_is_accepted_and_recorded(run: Run, model: Path):
    names = scheduler_names(zoo.ddim())
    assert len(names) == len(zoo.ddim().compatibles) == 15
    for name in ("ddpm", "heun", "unipc", "lms"):
        assert name in names
        assert run("generate", "a", "-m", model, "--num", 1, "--scheduler", name, *FAST).exit_code == 0
        assert json.loads(run("info", "images/seed-000000.png", "--json").stdout)["scheduler"] == name


def test_a_prompt_may_be_empty(run: Run, model: Path):
    assert run("generate", "", "-m", model, "--num", 1, *FAST).exit_code == 0
    assert "pag generate ''" in run("info", "images/seed-000000.png").stdout


def test_interruption_keeps_what_is_done(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    calls, decode = [0], AutoencoderKL.decode

    def interrupted(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return decode(*args, **kwargs)  # pyright: ignore

    monkeypatch.setattr(AutoencoderKL, "decode", interrupted)
    result = run("generate", "a", "-m", model, "--num", 3, *FAST)
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["seed-000000.png"]


def test_speed_leaves_computations_out_and_is_recorded(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch):
    passes: list[tuple[str, ...]] = []
    left_out = Deltas.left_out
    monkeypatch.setattr(
        Deltas, "left_out", lambda self, groups: passes.append(found := left_out(self, groups)) or found
    )  # pyright: ignore
    assert run("generate", "a", "-m", model, "--num", 1, "--speed", "fast", "--steps", 10).exit_code == 0
    assert () in passes
    assert any(passes)
    assert json.loads(run("info", "images/seed-000000.png", "--json").stdout)["speed"] == "fast"
    wrong = run("generate", "a", "-m", model, "--speed", "slow")
    assert wrong.exit_code == 2
    assert "'slow' is not one of exact, fast" in wrong.output


def test_low_memory(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    passes: list[int] = []
    recording = GuidedForward.recording
    monkeypatch.setattr(GuidedForward, "recording", lambda self, *a: passes.append(1) or recording(self, *a))  # pyright: ignore
    for out, *how in (("one", "--low-memory"), ("other",)):
        assert run("generate", "a", "-m", model, "--out", out, "--num", 1, *how, *FAST).exit_code == 0
        assert len(passes) == 2
    one, other = (pixels(tmp_path / out / "seed-000000.png") for out in ("one", "other"))
    assert np.abs(one - other).max() <= 1
