"""`AutoPAGPipelineFor…` chooses the class as diffusers' `AutoPipelineFor…` does, and gives its PAG sister."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import pag
from tests import zoo

TASKS: dict[Any, dict[str, str]] = {
    pag.AutoPAGPipelineForText2Image: {
        "StableDiffusionPipeline": "StableDiffusionPAGPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLPAGPipeline",
    },
    pag.AutoPAGPipelineForImage2Image: {
        "StableDiffusionPipeline": "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLPAGImg2ImgPipeline",
    },
    pag.AutoPAGPipelineForInpainting: {
        "StableDiffusionPipeline": "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionXLPipeline": "StableDiffusionXLPAGInpaintPipeline",
    },
}
CASES = [(task, plain, name) for task, names in TASKS.items() for plain, name in names.items()]
cases = pytest.mark.parametrize(("task", "plain", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))


def pipeline(plain: str) -> Any:
    kind = "sdxl" if "XL" in plain else "sd15"
    words: dict[str, Any] = {"tokenizer": zoo.tokenizer(), "text_encoder": zoo.text_encoder()}
    return zoo.pipeline(plain, kind, **words)


@cases
def test_from_pretrained(task: Any, plain: str, name: str, tmp_path: Path) -> None:
    pipeline(plain).save_pretrained(tmp_path)
    parts: dict[str, Any] = {"text_encoder_2": None, "tokenizer_2": None} if "XL" in plain else {}
    loaded = task.from_pretrained(tmp_path, pag_applied_layers=["d0"], **parts)
    assert type(loaded) is getattr(pag, name)
    assert loaded.pag_applied_layers == ["d0"]
    loaded.save_pretrained(tmp_path)
    assert task.from_pretrained(tmp_path, **parts).pag_applied_layers == ["d0"]


@cases
def test_from_pipe(task: Any, plain: str, name: str) -> None:
    pipe = pipeline(plain)
    pipe.unet.to(torch.bfloat16)
    made = task.from_pipe(pipe)
    assert type(made) is getattr(pag, name)
    assert all(made.components[part] is component for part, component in pipe.components.items())
    assert (made.unet.dtype, made.vae.dtype) == (torch.bfloat16, torch.float32)
    made.set_pag_applied_layers(["d0"])
    for other in TASKS:
        again = other.from_pipe(made)
        assert type(again) is getattr(pag, TASKS[other][plain])
        assert again.pag_applied_layers == ["d0"]
        assert other.from_pipe(made, pag_applied_layers="auto").pag_applied_layers == ["auto"]


def test_from_a_pag_pipeline_that_diffusers_does_not_know() -> None:
    parts = zoo.pipeline("StableDiffusionControlNetImg2ImgPipeline", controlnet=zoo.controlnet()).components
    pipe = pag.StableDiffusionControlNetImg2ImgPAGPipeline(**parts, requires_safety_checker=False)
    made = pag.AutoPAGPipelineForText2Image.from_pipe(pipe)
    assert type(made) is pag.StableDiffusionControlNetPAGPipeline
    assert made.unet is pipe.unet


def test_a_controlnet_chooses_its_class() -> None:
    pipe, controlnet = zoo.pipeline(), zoo.controlnet()
    made = pag.AutoPAGPipelineForImage2Image.from_pipe(pipe, controlnet=controlnet)
    assert type(made) is pag.StableDiffusionControlNetImg2ImgPAGPipeline
    assert made.controlnet is controlnet
    assert (
        type(pag.AutoPAGPipelineForImage2Image.from_pipe(made, controlnet=None))
        is pag.StableDiffusionPAGImg2ImgPipeline
    )


def test_from_the_class_of_diffusers() -> None:
    theirs = zoo.pipeline("StableDiffusionPAGPipeline", pag_applied_layers=["down_blocks.0"])
    made = pag.AutoPAGPipelineForInpainting.from_pipe(theirs)
    assert type(made) is pag.StableDiffusionPAGInpaintPipeline
    assert made.pag_applied_layers == ["down_blocks.0"]


def test_what_diffusers_does_not_know_is_refused() -> None:
    pipe = zoo.pipeline("StableDiffusionUpscalePipeline", "upscaler", vae=zoo.vae(scaling_factor=0.08333))
    with pytest.raises(ValueError, match="can't find a pipeline linked to StableDiffusionUpscalePipeline"):
        pag.AutoPAGPipelineForText2Image.from_pipe(pipe)
    with pytest.raises(OSError, match="AutoPAGPipelineForText2Image is made with `from_pretrained` or `from_pipe`"):
        pag.AutoPAGPipelineForText2Image()


def test_a_run_is_that_of_the_class() -> None:
    made = pag.AutoPAGPipelineForImage2Image.from_pipe(zoo.pipeline())
    made.set_progress_bar_config(disable=True)
    plain = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(made)
    run: dict[str, Any] = {"image": zoo.picture(), **zoo.prompts()}
    with pag.guide(plain, 3.0):
        expected = zoo.sample(plain, **run)
    assert torch.equal(zoo.sample(made, **run), expected)
