"""A checkpoint becomes a folder that loads, or one clear error and nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file

import pag
from pag.adm.convert import convert
from pag.adm.published import Settings
from pag.generate import UserError
from tests.adm import files

SETTINGS = Settings(files.SIZE, heads=4, order="legacy", schedule="cosine")


def converted(file: Path, out: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"settings": SETTINGS, "classifier_head_channels": 16}
    convert(file, out, **(given | options))
    pipeline: Any = pag.ADMPipeline
    pipe = pipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noisy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, files.SIZE, files.SIZE, generator=generator), torch.tensor([3, 900]), torch.tensor([1, 6])


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["unet.pt", "unet.safetensors"])
def test_a_converted_folder_loads_and_predicts_as_the_original(tmp_path: Path, name: str):
    theirs = files.unet()
    judge = files.classifier()
    pipe = converted(
        files.save(theirs, tmp_path / name), tmp_path / "out", classifier=files.save(judge, tmp_path / "judge.pt")
    )
    sample, times, labels = noisy()
    assert type(pipe.unet) is pag.ADMUNet
    torch.testing.assert_close(
        pipe.unet(sample, times, labels).sample, theirs(sample, times, labels), atol=1e-5, rtol=0
    )
    assert type(pipe.classifier) is pag.ADMClassifier
    torch.testing.assert_close(pipe.classifier(sample, times), judge(sample, times), atol=1e-5, rtol=0)
    image = pipe(class_labels=3, num_inference_steps=2, classifier_scale=1.0, output_type="pt").images
    assert image.shape == (1, 3, files.SIZE, files.SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["judge.pt", "out", name])


def test_a_u_net_that_diffusers_has_stays_diffusers_own(tmp_path: Path):
    theirs = files.unet(heads=None, head_channels=16, classes=None)
    settings = Settings(files.SIZE, head_channels=16, order="legacy", schedule="linear")
    pipe = converted(files.save(theirs, tmp_path / "unet.pt"), tmp_path / "out", settings=settings)
    assert type(pipe.unet) is UNet2DModel
    sample, times, _ = noisy()
    assert_close(pipe.unet(sample, times).sample, theirs(sample, times))
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    assert pipe.classifier is None


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_noise_levels_are_the_original_s(tmp_path: Path, schedule: Any):
    settings = Settings(files.SIZE, heads=4, order="legacy", schedule=schedule)
    pipe = converted(files.save(files.unet(), tmp_path / "unet.pt"), tmp_path / "out", settings=settings)
    assert type(pipe.scheduler) is DDIMScheduler
    steps = torch.arange(1001, dtype=torch.float64) / 1000
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    else:
        levels = torch.cos((steps + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - levels[1:] / levels[:-1]).clamp(max=0.999)
    torch.testing.assert_close(pipe.scheduler.betas.double(), betas, atol=1e-6, rtol=1e-4)
    pipe.scheduler.set_timesteps(25)
    assert pipe.scheduler.timesteps.tolist() == list(range(960, -1, -40))


@pytest.mark.parametrize(
    ("saved", "asked", "got"),
    [
        (torch.float16, None, torch.float16),
        (torch.float32, None, torch.float32),
        (torch.float32, torch.float16, torch.float16),
        (torch.float16, torch.float32, torch.float32),
    ],
)
def test_precision_is_the_checkpoint_s_or_another(tmp_path: Path, saved: Any, asked: Any, got: Any):
    file = files.save(files.unet().to(saved), tmp_path / "unet.pt")
    unet = convert(file, tmp_path / "out", SETTINGS, dtype=asked)
    assert {weight.dtype for weight in unet.parameters()} == {got}
    (stored,) = (tmp_path / "out" / "unet").glob("*.safetensors")
    assert {weight.dtype for weight in load_file(stored).values()} == {got}


def test_a_checkpoint_of_two_precisions_gets_the_higher_one(tmp_path: Path):
    weights = files.unet().state_dict()
    torch.save({name: w.half() if "blocks" in name else w for name, w in weights.items()}, tmp_path / "unet.pt")
    unet = convert(tmp_path / "unet.pt", tmp_path / "out", SETTINGS)
    assert {weight.dtype for weight in unet.parameters()} == {torch.float32}


def test_an_upsampler_is_a_u_net_without_a_pipeline(tmp_path: Path):
    theirs = files.unet(in_channels=6)
    convert(files.save(theirs, tmp_path / "unet.pt"), tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out" / "model_index.json").exists()
    kind: Any = pag.ADMUNet
    ours = kind.from_pretrained(tmp_path / "out", subfolder="unet")
    sample, times, labels = noisy()
    both = torch.cat([sample, sample.flip(0)], dim=1)
    assert_close(ours(both, times, labels).sample, theirs(both, times, labels))
    assert ours.config.learned_variance
    assert DDIMScheduler.from_pretrained(tmp_path / "out", subfolder="scheduler") is not None


@pytest.mark.parametrize("name", files.BAD)
def test_bad_files_get_a_clear_error_and_leave_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    file, make, message = files.BAD[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / file)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as caught:
        convert(Path(file), Path("out"), SETTINGS)
    assert message in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before, "no code of the file has run, and no folder is there"


CLASSIFIERS: dict[str, tuple[Callable[[], Any], str]] = {
    "of another size": (lambda: files.classifier(size=32), "is for images of 32 pixels a side, but"),
    "of other classes": (lambda: files.classifier(classes=5), "is for 5 classes, but"),
    "none": (files.unet, "this is a U-Net, and no classifier"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_that_does_not_fit_is_refused(tmp_path: Path, name: str):
    make, message = CLASSIFIERS[name]
    unet, judge = files.save(files.unet(), tmp_path / "unet.pt"), files.save(make(), tmp_path / "judge.pt")
    with pytest.raises(UserError, match=message):
        convert(unet, tmp_path / "out", SETTINGS, classifier=judge, classifier_head_channels=16)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_replaced_when_asked_to(tmp_path: Path):
    file, out = files.save(files.unet(), tmp_path / "unet.pt"), tmp_path / "out"
    convert(
        file, out, SETTINGS, classifier=files.save(files.classifier(), tmp_path / "c.pt"), classifier_head_channels=16
    )
    with pytest.raises(UserError, match="out exists: give another folder, or --force"):
        convert(file, out, SETTINGS)
    assert (out / "classifier").exists()
    convert(file, out, SETTINGS, force=True)
    assert not (out / "classifier").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pt", "out", "unet.pt"]


def test_what_is_no_model_is_not_deleted(tmp_path: Path):
    file = files.save(files.unet(), tmp_path / "unet.pt")
    out = tmp_path / "photos"
    out.mkdir()
    (out / "one.png").touch()
    with pytest.raises(UserError, match="holds other things than a model"):
        convert(file, out, SETTINGS, force=True)
    with pytest.raises(UserError, match=r"is a file; the model becomes a folder"):
        convert(file, out / "one.png", SETTINGS, force=True)
    with pytest.raises(UserError, match=r"holds .*unet.pt, which would go with it"):
        convert(file, tmp_path, SETTINGS, force=True)
    assert (out / "one.png").exists()
    assert file.exists()


def test_a_write_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, out = files.save(files.unet(), tmp_path / "unet.pt"), tmp_path / "out"
    convert(file, out, SETTINGS)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(self: Any, folder: Path, **_: Any) -> None:
        (Path(folder) / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pag.ADMPipeline, "save_pretrained", full)
    with pytest.raises(UserError, match=r"cannot write .*: no space left on device"):
        convert(file, out, SETTINGS, force=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "unet.pt"]


def test_progress_is_told(tmp_path: Path):
    told: list[str] = []
    convert(files.save(files.unet(), tmp_path / "unet.pt"), tmp_path / "out", SETTINGS, on_stage=told.append)
    assert told == [f"reading {tmp_path / 'unet.pt'}", f"writing {tmp_path / 'out'}"]
