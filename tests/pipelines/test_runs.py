"""Whole runs through drop-in classes: the same, to the bit, as `pag.guide` around the plain pipeline."""

from typing import Any

import pytest
import torch

import pag
from tests import zoo
from tests.runs import RUNS

UNETS: dict[str, tuple[str, dict[str, Any]]] = {
    "StableDiffusionPipeline": ("sd15", {}),
    "StableDiffusionXLPipeline": ("sdxl", zoo.pooled()),
    "StableDiffusionImg2ImgPipeline": ("sd15", {"image": zoo.picture()}),
    "StableDiffusionControlNetPipeline": ("sd15", {"image": zoo.picture()}),
    "StableDiffusionInstructPix2PixPipeline": ("pix2pix", {"image": zoo.picture()}),
}
POPULAR = (
    "FluxPipeline",
    "FluxPipeline: true CFG",
    "WanPipeline: two transformers",
    "StableDiffusion3Pipeline",
    "SanaPipeline",
    "QwenImagePipeline",
)


@pytest.mark.parametrize("name", UNETS)
def test_unets(name: str) -> None:
    kind, arguments = UNETS[name]
    parts = {"controlnet": zoo.controlnet()} if "ControlNet" in name else {}
    plain = zoo.pipeline(name, kind, **parts)
    run = arguments | zoo.prompts()
    pipe = pag.pag_pipeline(type(plain)).from_pipe(plain)
    pipe.set_progress_bar_config(disable=True)
    unguided = zoo.sample(plain, **run)
    with pag.guide(plain, 2.0, layers="m0"):
        expected = zoo.sample(plain, **run)
    assert zoo.difference(unguided, expected) > 1e-3
    assert torch.equal(zoo.sample(pipe, pag_scale=2.0, pag_applied_layers_index=["m0"], **run), expected)
    assert torch.equal(zoo.sample(pipe, pag_scale=0.0, **run), unguided)


@pytest.mark.parametrize("name", POPULAR)
def test_transformers(name: str) -> None:
    run = RUNS[name]
    plain = run.make()
    pipe = pag.pag_pipeline(type(plain)).from_pipe(plain)
    unguided = run.sample(plain)
    with pag.guide(plain, 2.0):
        expected = run.sample(plain)
    assert zoo.difference(unguided, expected) > 1e-3
    assert torch.equal(run.sample(pipe, pag_scale=2.0, pag_applied_layers="auto"), expected)
    assert torch.equal(run.sample(pipe, pag_scale=0.0), unguided)
    before = zoo.state_of(pipe.transformer)
    with pytest.raises(ValueError, match=r"'blocks.99' matches nothing"):
        run.sample(pipe, pag_applied_layers="blocks.99")
    assert zoo.state_of(pipe.transformer) == before
    assert all(path.endswith(".processor") for path in pipe.pag_attn_processors)
    assert pipe.pag_attn_processors
