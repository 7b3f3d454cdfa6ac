"""`pag sample`, and the run that is made of it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pag
from tests.adm import tiny
from tests.cli.conftest import Run
from tests.cli.test_errors import assert_refused

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "runs" / "adm_imagenet256.sh"
FAST = ("--steps", 2, "--num", 5, "--batch", 2)


@pytest.fixture(scope="session")
def adm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("adm"), classes=tiny.CLASSES)


def arrays(file: Path) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]":
    with np.load(file) as found:
        return dict(found)


def test_samples_and_their_classes(run: Run, adm_model: Path, tmp_path: Path):
    result = run("sample", "adm", adm_model, *FAST, "--out", "new/samples.npz", "--classes", "balanced")
    assert result.exit_code == 0, result.output
    assert result.stdout == "new/samples.npz: complete\n"
    found = arrays(tmp_path / "new" / "samples.npz")
    assert found["arr_0"].shape == (5, tiny.SIZE, tiny.SIZE, 3)
    assert found["arr_1"].tolist() == [0, 1, 2, 3, 4]
    again = run("sample", "adm", adm_model, *FAST, "--out", "new/samples.npz", "--classes", "balanced")
    assert again.stdout == "new/samples.npz: is complete\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["samples.npz"]
    other = run("sample", "adm", adm_model, *FAST, "--out", "new/samples.npz", "--pag-scale", 2)
    assert_refused(other, "classes balanced, now random; pag_scale 1, now 2. Choose another --out, or --force")
    assert run("sample", "adm", adm_model, *FAST, "--out", "new/samples.npz", "--force").exit_code == 0


OPTIONS = {
    "scale": ("--pag-scale", 3),
    "layers": ("--layers", "up_blocks.0.attentions.0"),
    "sampler": ("--sampler", "ddim"),
    "eta": ("--sampler", "ddim", "--eta", 1),
    "steps": ("--steps", 3),
    "seed": ("--seed", 1),
    "classes": ("--classes", "goldfish"),
    "dtype": ("--dtype", "bfloat16"),
}


def test_options_change_the_images(run: Run, adm_model: Path, tmp_path: Path):
    made: set[bytes] = set()
    for name, options in {"default": (), **OPTIONS}.items():
        result = run("sample", "adm", adm_model, "--num", 1, "--steps", 2, "--out", f"{name}.npz", *options)
        assert result.exit_code == 0, result.output
        made.add(arrays(tmp_path / f"{name}.npz")["arr_0"].tobytes())
    assert len(made) == 1 + len(OPTIONS)


def test_shards_and_merge(run: Run, adm_model: Path, tmp_path: Path):
    for out in ("a", "b"):
        command = ("sample", "adm", adm_model, *FAST, "--out", f"{out}/samples.npz", "--shards", 2, "--shard")
        assert run(*command, "ab".index(out)).exit_code == 0
    (tmp_path / "b" / "samples.shard-1-of-2.npz").rename(tmp_path / "a" / "samples.shard-1-of-2.npz")
    merged = run("sample", "merge", "a/samples.npz")
    assert merged.stdout == "a/samples.npz: 5 images\n"
    assert run("sample", "adm", adm_model, *FAST, "--out", "whole.npz").exit_code == 0
    assert (tmp_path / "a" / "samples.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert_refused(run("sample", "merge", "whole.npz"), "there are no shards of whole.npz")


def test_interruption_tells_how_to_go_on(run: Run, adm_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls, call = [0], pag.ADMPipeline.__call__

    def interrupted(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return call(*args, **kwargs)  # pyright: ignore

    monkeypatch.setattr(pag.ADMPipeline, "__call__", interrupted)
    result = run("sample", "adm", adm_model, *FAST)
    assert result.exit_code == 130
    assert "2 of 5 images are kept: the same command goes on" in result.stderr
    assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz.parts"]
    assert run("sample", "adm", adm_model, *FAST).exit_code == 0
    assert calls[0] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


BAD = {
    "shard alone": (("--shard", 1), "--shards K and --shard k go together"),
    "shards alone": (("--shards", 2), "--shards K and --shard k go together"),
    "shard": (("--shards", 2, "--shard", 2), "no shard 2"),
    "sampler": (("--sampler", "ddqm"), "unknown scheduler 'ddqm'. There is: dd"),
    "layer": (("--layers", "middle"), "'middle' matches nothing"),
    "scale": (("--classifier-scale", -1), "-1 is not a finite number"),
    "classes": (("--classes", "99"), "There is no class 99: the model knows 5, from 0 to 4"),
    "speed": (("--speed", "slow"), "'slow' is not one of exact, fast"),
    "method": (("--perturbation", "sharp"), "cannot guide this model so"),
    "out": (("--out", "."), "--out . is a folder"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_options(run: Run, adm_model: Path, tmp_path: Path, options: tuple[object, ...], message: str):
    assert_refused(run("sample", "adm", adm_model, *options), message)
    assert list(tmp_path.iterdir()) == []


def test_bad_models(run: Run, tmp_path: Path):
    assert_refused(run("sample", "adm", "nowhere"), "nowhere is not a diffusers model folder")
    (tmp_path / "model_index.json").write_text("{")
    assert_refused(run("sample", "adm", tmp_path), f"cannot load {tmp_path}")


def script(*arguments: str, **settings: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    return subprocess.run(["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, cwd=ROOT)


def test_the_run_prints_its_commands(tmp_path: Path):
    shown = script("--dry-run", OUT=tmp_path / "out", GPUS=2, EVALUATOR="evaluator.py")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert sum("sample adm" in line for line in lines) == 6 * 2
    assert sum("--pag-scale 1 --layers" in line for line in lines) == 2 * 2
    for scale in (0.5, 0.2):
        sag = f"--pag-scale {scale} --perturbation sag_pixels --layers output_blocks.2.1"
        assert sum(sag in line for line in lines) == 2
    assert all("--num 50000 --steps 250" in line for line in lines if "sample adm" in line)
    assert sum("evaluator.py VIRTUAL_imagenet256_labeled.npz" in line for line in lines) == 6
    assert not (tmp_path / "out").exists()
    assert script("--dry").returncode == 2
    assert "there is no nowhere/256x256_diffusion.pt" in script(MODELS="nowhere", OUT=tmp_path, ROWS="cond-none").stderr


COMMAND = f"""#!{sys.executable}
from pag.cli import app
app()
"""
EVALUATOR = """
import sys
import numpy as np
print("FID:", np.load(sys.argv[2])["arr_0"].shape[0])
"""


@pytest.fixture
def small(adm_model: Path, tmp_path: Path) -> dict[str, object]:
    """Settings of a run with a tiny model, and an evaluator that counts."""
    command, evaluator = tmp_path / "pag", tmp_path / "evaluator.py"
    command.write_text(COMMAND)
    command.chmod(0o755)
    evaluator.write_text(EVALUATOR)
    return {
        "PAG": command,
        "PYTHON": sys.executable,
        "EVALUATOR": evaluator,
        "OUT": tmp_path / "out",
        "COND": adm_model,
        "NUM": 4,
        "STEPS": 1,
        "BATCH": 2,
        "GPUS": 2,
        "LAYERS": "mid",
        "SAG": "sag",
        "SAG_LAYER": "mid",
    }


def test_the_run_at_small_size(small: dict[str, object], tmp_path: Path):
    out = tmp_path / "out"
    done = script(**small | {"GPUS": 0}, ROWS="cond-none cond-sag")  # shards are below
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(cond-\S+) +(\S+) +(\S+)$", done.stdout, re.MULTILINE) == [
        ("cond-none", "10.94", "4"),
        ("cond-sag", "9.41", "4"),
    ]
    names = {"cond-none.npz", "cond-none.txt", "cond-sag.npz", "cond-sag.txt"}
    assert {path.name for path in out.iterdir()} == names
    one, other = (arrays(out / f"cond-{name}.npz")["arr_0"] for name in ("none", "sag"))
    assert not np.array_equal(one, other)


def test_the_run_ends_its_shards_and_goes_on(small: dict[str, object], tmp_path: Path):
    out, long = tmp_path / "out", small | {"ROWS": "cond-pag", "NUM": 40, "STEPS": 20}
    environment = os.environ | {name: str(value) for name, value in long.items()}
    with subprocess.Popen(["bash", str(SCRIPT)], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 120
        while len(list(out.glob("*.parts/*.rgb"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        _, told = run.communicate(timeout=60)  # not before the shards, which hold its standard error, have ended
    assert run.returncode == 130
    assert "stopped: the same command goes on" in told
    assert list(out.glob("*.parts/*.rgb"))
    assert not (out / "cond-pag.npz").exists()
    assert script(**long).returncode == 0
    assert arrays(out / "cond-pag.npz")["arr_0"].shape[0] == 40
    assert {path.name for path in out.iterdir()} == {"cond-pag.npz", "cond-pag.txt"}
