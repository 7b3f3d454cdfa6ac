"""Checkpoints of guided-diffusion as folders of diffusers."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors import SafetensorError
from torch import Tensor, nn

from pag.adm.build import build
from pag.adm.files import read_weights
from pag.adm.layout import read_layout
from pag.adm.pipeline import ADMPipeline
from pag.adm.published import UNKNOWN, Settings, settings_of
from pag.adm.samplers import DDIM
from pag.generate.errors import UserError, mendable

__all__ = ["convert"]

_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
"""Names of the noise schedules in diffusers."""

_MARKS = ("model_index.json", "unet/config.json")
"""What a folder has that may be replaced."""


def convert(
    file: Path,
    out: Path,
    settings: Settings = UNKNOWN,
    classifier: Path | None = None,
    classifier_head_channels: int = 64,
    dtype: torch.dtype | None = None,
    force: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> nn.Module:
    """Write a folder from which ``pag.ADMPipeline.from_pretrained`` loads a checkpoint of guided-diffusion.

    The folder appears when it is complete. Its scheduler is DDIM with the noise levels and settings of the original.
    An upsampler's holds the U-Net and the scheduler only: no pipeline here runs one.

    Args:
        file: the checkpoint of a U-Net.
        out: the folder.
        settings: what the weights do not tell; the published checkpoints need none.
        classifier: the checkpoint of a classifier of noisy images, for classifier guidance.
        classifier_head_channels: width of its attention heads.
        dtype: of the weights; by default that of the checkpoint.
        force: replace the folder of another model.
        on_stage: called with what is being done.

    Returns:
        The U-Net.

    Raises:
        UserError: a file is none of these, or is damaged, or does not fit; or settings are missing; or the folder is
            there already.
    """
    _check_out(out, force, [file, *([classifier] if classifier else [])])
    on_stage(f"reading {file}")
    unet, settings = _network(file, settings, dtype, classifier=False)
    judge = None
    if classifier is not None:
        on_stage(f"reading {classifier}")
        heads = Settings(head_channels=classifier_head_channels, order="legacy")  # as in every one that its code made
        judge, _ = _network(classifier, heads, dtype, classifier=True)
        _check_classifier(unet, judge, file, classifier)
    on_stage(f"writing {out}")
    with mendable(f"cannot write {out}", OSError, SafetensorError), _appearing(out) as folder:
        _save(unet, _scheduler(settings), judge, folder)
    return unet


def _network(file: Path, settings: Settings, dtype: torch.dtype | None, classifier: bool) -> tuple[Any, Settings]:
    weights = read_weights(file)
    with mendable(f"{file}", UserError):
        layout = read_layout({name: tuple(weight.shape) for name, weight in weights.items()})
        if layout.classifier and not classifier:
            raise UserError("this is a classifier: convert a U-Net, and give it as --classifier")
        if classifier and not layout.classifier:
            raise UserError("this is a U-Net, and no classifier of noisy images")
        settings = settings_of(layout, settings)
        return build(_cast(weights, dtype), layout, settings), settings


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """All weights in one precision: that given, or else the highest that they have."""
    for weight in weights.values() if dtype is None else ():
        dtype = weight.dtype if dtype is None else torch.promote_types(dtype, weight.dtype)
    return {name: weight.to(dtype) for name, weight in weights.items()}


def _scheduler(settings: Settings) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule=_BETAS[settings.schedule or "linear"],
        **DDIM,
    )


def _check_classifier(unet: Any, judge: Any, file: Path, classifier: Path) -> None:
    ours, theirs = unet.config, judge.config
    for what, wanted, given in (
        ("images of {} pixels a side", ours.sample_size, theirs.sample_size),
        ("images of {} channels", ours.in_channels, theirs.in_channels),
        ("{} classes", ours.num_class_embeds or theirs.num_classes, theirs.num_classes),
    ):
        if wanted != given:
            raise UserError(f"{classifier} is for {what.format(given)}, but {file} for {what.format(wanted)}")


def _save(unet: Any, scheduler: Any, classifier: Any, folder: Path) -> None:
    if unet.config.get("learned_variance") is None:
        ADMPipeline(unet, scheduler, classifier).save_pretrained(folder)
    else:  # an upsampler, which no pipeline runs
        unet.save_pretrained(folder / "unet")
        scheduler.save_pretrained(folder / "scheduler")


def _check_out(out: Path, force: bool, files: Sequence[Path]) -> None:
    if not out.exists():
        return
    if kept := next((file for file in files if out.resolve() in file.resolve().parents), None):
        raise UserError(f"{out} holds {kept}, which would go with it: give another folder")
    if not out.is_dir():
        raise UserError(f"{out} is a file; the model becomes a folder")
    if any(out.iterdir()):
        if not force:
            raise UserError(f"{out} exists: give another folder, or --force to replace it")
        if not any((out / mark).is_file() for mark in _MARKS):
            raise UserError(
                f"{out} holds other things than a model, which --force does not delete: give another folder"
            )


@contextmanager
def _appearing(out: Path) -> Generator[Path, None, None]:
    """A folder that takes the place of `out` when all has been written, and goes if that fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as hidden:
        new, old = Path(hidden) / "new", Path(hidden) / "old"
        new.mkdir()
        yield new
        if out.exists():
            out.replace(old)
        new.replace(out)
