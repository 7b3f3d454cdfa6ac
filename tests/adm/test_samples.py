"""Files of samples: their layout, that an image depends on its seed alone, and going on after whatever ended a run."""

import errno
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pag
from pag.adm import merge as merging
from pag.adm.batches import to_bytes
from pag.adm.classes import class_of_seed
from pag.adm.merge import merge, shard_file
from pag.adm.npz import read_blocks
from pag.adm.parts import Parts
from pag.adm.samplers import use_sampler
from pag.adm.samples import Samples, sample
from pag.generate import UserError
from tests.adm import tiny

SHORT = Samples(num=7, seed=3, steps=2)
BATCH = 2


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.pipeline(classes=tiny.CLASSES)


@pytest.fixture(scope="module")
def expected(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an uninterrupted run."""
    file = tmp_path_factory.mktemp("expected") / "samples.npz"
    assert sample(pipe, file, SHORT, batch=BATCH)
    return file.read_bytes()


def images(file: Path) -> Any:
    with np.load(file) as arrays:
        return arrays["arr_0"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_layout_is_the_evaluators(expected: bytes, tmp_path: Path):
    file = tmp_path / "samples.npz"
    file.write_bytes(expected)
    with np.load(file) as arrays:
        assert arrays.files == ["arr_0", "arr_1"]
        whole, labels = arrays["arr_0"], arrays["arr_1"]
    assert (whole.shape, whole.dtype) == ((7, tiny.SIZE, tiny.SIZE, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((7,), np.int64)
    assert whole.std() > 0
    # It reads the member as a stream, whose header has to be of the first version.
    with zipfile.ZipFile(file) as archive, archive.open("arr_0.npy") as opened:
        member: Any = opened
        assert np.lib.format.read_magic(member) == (1, 0)
        assert np.lib.format.read_array_header_1_0(member) == (whole.shape, False, np.uint8)
        assert member.read() == whole.tobytes()
    assert archive.getinfo("arr_0.npy").compress_type == zipfile.ZIP_STORED
    assert np.array_equal(np.concatenate(list(read_blocks(file, 3))), whole)
    assert [len(block) for block in read_blocks(file, 3)] == [3, 3, 1]


def test_a_model_without_classes_has_no_labels(tmp_path: Path):
    sample(tiny.pipeline(), tmp_path / "a.npz", Samples(num=1, steps=1))
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["arr_0"]


def test_grey_is_three_equal_channels(tmp_path: Path):
    sample(tiny.pipeline(channels=1), tmp_path / "a.npz", Samples(num=1, steps=1))
    red, green, blue = np.moveaxis(images(tmp_path / "a.npz"), -1, 0)
    assert red.std() > 0
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)


def test_bytes_are_rounded_as_in_guided_diffusion():
    x = torch.cat([torch.linspace(-1.1, 1.1, 99_991), torch.arange(-255, 256) / 255]).view(1, 1, -1, 1)
    original = ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)
    assert np.array_equal(to_bytes((x / 2 + 0.5).clamp(0, 1))[..., 0], original[:, 0].numpy())


def test_an_image_depends_on_its_seed_alone(pipe: Any, expected: bytes, tmp_path: Path):
    (tmp_path / "all.npz").write_bytes(expected)
    sample(pipe, tmp_path / "some.npz", Samples(num=3, seed=6, steps=2), batch=BATCH)
    assert np.array_equal(images(tmp_path / "some.npz"), images(tmp_path / "all.npz")[3:6])
    sample(pipe, tmp_path / "batch.npz", SHORT, batch=5)
    far = np.abs(images(tmp_path / "batch.npz").astype(int) - images(tmp_path / "all.npz"))
    assert far.max() <= 1
    assert (far > 0).mean() < 0.01


def test_guidance_and_the_sampler_change_images(pipe: Any, expected: bytes, tmp_path: Path):
    (tmp_path / "pag.npz").write_bytes(expected)
    sample(pipe, tmp_path / "none.npz", Samples(num=7, seed=3, steps=2, pag_scale=0.0), batch=BATCH)
    ddim = tiny.pipeline(classes=tiny.CLASSES)
    use_sampler(ddim, "ddim")
    sample(ddim, tmp_path / "ddim.npz", SHORT, batch=BATCH)
    one, two, three = (images(tmp_path / f"{name}.npz") for name in ("pag", "none", "ddim"))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_a_run_that_is_interrupted_goes_on(pipe: Any, expected: bytes, tmp_path: Path):
    file, reports = tmp_path / "samples.npz", list[int]()

    def interrupt(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(pipe, file, SHORT, batch=BATCH, on_done=interrupt)
    assert not file.exists()
    pipe.calls.clear()
    assert sample(pipe, file, SHORT, batch=BATCH, on_done=reports.append)
    assert reports == [4, 6, 7]
    assert pipe.calls == [BATCH] * 2
    assert file.read_bytes() == expected
    assert names(tmp_path) == ["samples.npz"]
    assert not sample(pipe, file, SHORT, batch=BATCH)
    assert pipe.calls == [BATCH] * 2


def test_another_batch_goes_on_too(pipe: Any, expected: bytes, tmp_path: Path):
    parts = Parts(tmp_path / "samples.npz", (tiny.SIZE, tiny.SIZE, 3))
    with parts.opened({}):
        for start, stop in ((0, 2), (3, 4), (6, 7)):
            parts.add(start, np.zeros((stop - start, tiny.SIZE, tiny.SIZE, 3), np.uint8))
        (parts.folder / "000000004-000000005.rgb").write_bytes(b"cut short")
        assert [(some.start, some.stop) for some in parts.missing(range(7), 2)] == [(2, 3), (4, 6)]


# Of processes that are killed, all made of one that has read the libraries.
KILLED = """
import os, shutil, signal, sys
from pag.adm import npz, parts
from pag.adm.samples import sample
from tests.adm import tiny, test_samples

def killing(function, left):
    def run(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return run

pipe = tiny.pipeline(classes=tiny.CLASSES)
for file, moment in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
    else:
        left = [moment]
        npz.os.fsync, parts.shutil.rmtree = killing(os.fsync, left), killing(shutil.rmtree, left)
        sample(pipe, file, test_samples.SHORT, batch=test_samples.BATCH)
        os._exit(0)
"""
# The settings are written first, then four parts, then the file, then the parts are removed.
MOMENTS = {"settings": 0, "first part": 1, "third part": 3, "the file": 5, "removal": 6}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What is left of runs that were killed, by moment: the place of the file."""
    files = {moment: tmp_path_factory.mktemp("killed") / "samples.npz" for moment in MOMENTS.values()}
    arguments = [str(one) for moment, file in files.items() for one in (file, moment)]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return files


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_kill(pipe: Any, expected: bytes, killed: dict[int, Path], moment: int):
    file = killed[moment]
    assert file.exists() == (moment == 6)
    assert names(file.parent)
    pipe.calls.clear()
    sample(pipe, file, SHORT, batch=BATCH)
    assert len(pipe.calls) == 4 - min(4, max(0, moment - 1))  # a batch that is on the disk is not made again
    assert file.read_bytes() == expected
    assert names(file.parent) == ["samples.npz"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards(pipe: Any, expected: bytes, tmp_path: Path, order: tuple[int, ...]):
    file = tmp_path / "samples.npz"
    for shard in order[:2]:
        assert sample(pipe, file, SHORT, batch=BATCH, shard=(shard, 3))
    assert names(tmp_path) == sorted(shard_file(file, shard, 3).name for shard in order[:2])
    with pytest.raises(UserError, match=f"of its 3 shards these are not complete: {order[2]}"):
        merge(file)
    assert sample(pipe, file, SHORT, batch=BATCH, shard=(order[2], 3))
    assert file.read_bytes() == expected
    assert names(tmp_path) == ["samples.npz"]
    assert not sample(pipe, file, SHORT, batch=BATCH, shard=(1, 3))
    assert not sample(pipe, file, SHORT, batch=BATCH)


def test_shards_of_several_machines_are_merged(
    pipe: Any, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(merging, "AT_A_TIME", 2)
    for shard in range(2):
        folder = tmp_path / f"machine{shard}"
        sample(pipe, folder / "samples.npz", SHORT, batch=BATCH, shard=(shard, 2))
        shard_file(folder / "samples.npz", shard, 2).rename(shard_file(tmp_path / "samples.npz", shard, 2))
        folder.rmdir()
    assert merge(tmp_path / "samples.npz") == 7
    assert (tmp_path / "samples.npz").read_bytes() == expected
    assert names(tmp_path) == ["samples.npz"]


def test_shards_of_different_settings_are_not_merged(pipe: Any, tmp_path: Path):
    file = tmp_path / "samples.npz"
    sample(pipe, file, Samples(num=2, steps=1), shard=(0, 2))
    sample(pipe, file, Samples(num=2, steps=2), shard=(1, 2))
    with pytest.raises(UserError, match=r"do not belong together: steps 1, now 2"):
        merge(file)
    assert not file.exists()
    with pytest.raises(UserError, match="there are no shards of"):
        merge(tmp_path / "other.npz")


def test_settings_are_compared(pipe: Any, tmp_path: Path):
    file, one = tmp_path / "samples.npz", Samples(num=2, steps=1)

    def interrupt(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(pipe, file, one, on_done=interrupt)
    other = Samples(num=2, steps=1, seed=1, layers="up_blocks.0.attentions.0")
    wrong = r"other settings: seed 0, now 1; layers down_blocks.1.*mid_block.attentions.0, now up_blocks.*another --out"
    with pytest.raises(UserError, match=wrong):
        sample(pipe, file, other)
    with pytest.raises(UserError, match="other settings: the model has other weights"):
        sample(tiny.pipeline(classes=tiny.CLASSES, seed=1), file, one)
    assert sample(pipe, file, Samples(num=2, steps=1, layers="input_blocks.3, m0"))  # other names of the same layers
    with pytest.raises(UserError, match="is complete, with other settings: seed 0, now 1"):
        sample(pipe, file, other)
    assert sample(pipe, file, other, force=True)
    assert not sample(pipe, file, other)


def test_classes_are_functions_of_seeds(pipe: Any, tmp_path: Path):
    way, label = class_of_seed(pipe, "auto", wanted=False)
    assert way == "random"
    assert label is not None
    many = [label(seed) for seed in range(5000)]
    assert many[:8] == [label(seed) for seed in range(8)]
    assert np.bincount(many).min() > 900
    sample(pipe, tmp_path / "b.npz", Samples(num=6, seed=4, steps=1, classes="balanced"), batch=4)
    with np.load(tmp_path / "b.npz") as arrays:
        assert arrays["arr_1"].tolist() == [4, 0, 1, 2, 3, 4]
    way, label = class_of_seed(pipe, "3, Tinca tinca,goldfish", wanted=False)
    assert way == "3,0,1"
    assert label is not None
    assert [label(seed) for seed in range(5)] == [3, 0, 1, 3, 0]
    assert class_of_seed(tiny.pipeline(), "auto", wanted=False) == ("none", None)


def test_a_name_of_two_classes_is_not_guessed():
    cranes = pag.ADMPipeline(tiny.unet(classes=2), tiny.pipeline().scheduler, id2label={0: "crane", 1: "crane"})
    with pytest.raises(UserError, match=r"'crane' is the name of several classes: 0 .*, 1 "):
        class_of_seed(cranes, "crane", wanted=False)


WRONG: dict[str, tuple[Callable[[Any, Path], object], str]] = {
    "folder": (lambda pipe, at: sample(pipe, at, SHORT), "is a folder"),
    "no npz": (lambda pipe, at: sample(pipe, at / "a.npy", SHORT), "should end in .npz"),
    "no folder": (lambda pipe, at: sample(pipe, at / "taken.npz" / "a.npz", SHORT), "cannot write to"),
    "taken": (lambda pipe, at: sample(pipe, at / "taken.npz", SHORT), "exists, and not by this command"),
    "layer": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(layers="d9")), "'d9' matches nothing"),
    "shard": (lambda pipe, at: sample(pipe, at / "a.npz", SHORT, shard=(2, 2)), "the first is 0 and the last 1"),
    "shards": (lambda pipe, at: sample(pipe, at / "a.npz", SHORT, shard=(0, 8)), "cannot be made in 8 shards"),
    "class": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(classes="5")), "from 0 to 4"),
    "name": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(classes="goldfisch")), "Nearest: 'goldfish' (1)"),
    "no class": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(classes="none")), "is given a class"),
    "classifier": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(classifier_scale=1.0)), "needs a classifier"),
    "method": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(perturbation="x")), "cannot guide this model so"),
    "steps": (lambda pipe, at: sample(pipe, at / "a.npz", Samples(num=1, steps=2000)), "refuses these settings"),
}


@pytest.mark.parametrize(("run", "message"), WRONG.values(), ids=WRONG)
def test_mistakes(pipe: Any, tmp_path: Path, run: Callable[[Any, Path], object], message: str):
    (tmp_path / "taken.npz").write_text("a text")
    with pytest.raises(UserError, match=re.escape(message)):
        run(pipe, tmp_path)
    assert names(tmp_path) == ["taken.npz"]


@pytest.mark.parametrize("write", [1, 2, 6], ids=["settings", "part", "file"])
def test_a_full_disk(pipe: Any, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int):
    writes, fsync = [0], os.fsync

    def full(descriptor: int) -> None:
        writes[0] += 1
        if writes[0] == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*: no space left on device"):
        sample(pipe, tmp_path / "samples.npz", SHORT, batch=BATCH)
    assert names(tmp_path) == (["samples.npz.parts"] if write == 6 else [])
    assert not list(tmp_path.rglob("*.partial"))
    assert sample(pipe, tmp_path / "samples.npz", SHORT, batch=BATCH)
    assert (tmp_path / "samples.npz").read_bytes() == expected


def test_two_processes_do_not_make_one_file(pipe: Any, tmp_path: Path):
    pytest.importorskip("fcntl")
    file = tmp_path / "samples.npz"

    def meanwhile(done: int) -> None:
        with pytest.raises(UserError, match="another process is making"):
            sample(pipe, file, SHORT)

    assert sample(pipe, file, SHORT, batch=7, on_done=meanwhile)
