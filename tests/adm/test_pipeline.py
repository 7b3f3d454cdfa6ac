"""`pag.ADMPipeline`: what it takes, what it gives, and how it is saved and loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

import pag
from tests.adm import tiny


def ddim() -> Any:
    return DDIMScheduler(timestep_spacing="leading", steps_offset=0)


def made(classes: int | None = None, scheduler: Any = None, channels: int = 3, **more: Any) -> Any:
    pipe: Any = pag.ADMPipeline(tiny.unet(channels, classes), scheduler or ddim(), **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def run(pipe: Any, **call: Any) -> torch.Tensor:
    return pipe(**{"num_inference_steps": 2, "output_type": "latent"} | call).images


@pytest.mark.parametrize("classes", [None, tiny.CLASSES])
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_an_image_depends_on_its_generator_alone(classes: int | None, scheduler: str):
    ddpm = DDPMScheduler(variance_type="learned_range", timestep_spacing="linspace")
    pipe = made(classes, ddpm if scheduler == "ddpm" else ddim())
    together = run(pipe, num_images=3, generator=seeds(0, 1, 2))
    alone = run(pipe, generator=seeds(1))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_labels_are_numbers_and_names():
    pipe = made(tiny.CLASSES, id2label=tiny.NAMES)
    expected = run(pipe, class_labels=[1, 0], generator=seeds(0, 1))
    named = run(pipe, class_labels=["GoldFish", "Tinca  tinca"], generator=seeds(0, 1))
    assert torch.equal(named, expected)
    other = run(pipe, class_labels=[2, 0], generator=seeds(0, 1))
    assert not torch.equal(other[0], expected[0])


def test_saved_and_loaded(tmp_path: Path):
    pipe = made(tiny.CLASSES, id2label=tiny.NAMES, pag_applied_layers="mid")
    pipe.save_pretrained(tmp_path)
    loaded: Any = pag.ADMPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.id2label == tiny.NAMES
    assert loaded.pag_applied_layers == ["mid"]
    call: dict[str, Any] = {"class_labels": "goldfish"}
    assert torch.equal(run(loaded, **call, generator=seeds(0)), run(pipe, **call, generator=seeds(0)))
