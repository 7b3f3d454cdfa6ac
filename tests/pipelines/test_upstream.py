"""The 17 PAG classes of diffusers and ours of the same name: arguments, defaults, members, results."""

import inspect
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.pag.pag_utils import PAGMixin as PeerMixin
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

import pag
from pag.pipelines._upstream import UPSTREAM
from tests import reference, zoo

NAMES = [name for name in dir(diffusers) if name.endswith("Pipeline") and "PAG" in name]


def test_there_are_17() -> None:
    assert len(NAMES) == 17
    assert set(NAMES) == UPSTREAM.keys()


def parameters(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_theirs_is_one_of_ours_with_the_same_default(name: str) -> None:
    theirs, ours = getattr(diffusers, name), getattr(pag, name)
    assert (ours.__name__, issubclass(theirs, PeerMixin)) == (name, True)
    for method in ("__init__", "__call__"):
        expected, given = parameters(getattr(theirs, method)), parameters(getattr(ours, method))
        assert {argument: given.get(argument, "absent") for argument in expected} == expected, method
    members = {member for member in dir(theirs) if not member.startswith("_")}
    # The plain class has not all of what diffusers copied into the PAG class: this is for consistency models.
    missing = {"get_guidance_scale_embedding"} if name == "StableDiffusionControlNetPAGInpaintPipeline" else set[str]()
    assert members - set(dir(ours)) == missing
    assert pag.pag_pipeline(theirs) is ours


def test_optional_components_of_theirs_are_optional_in_ours() -> None:
    """The plain class of HunyuanDiT asks for the safety checker and its feature extractor."""
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "transformer", "scheduler"))
    pipe = pag.HunyuanDiTPAGPipeline(**parts, requires_safety_checker=False)
    assert (pipe.safety_checker, pipe.pag_applied_layers) == (None, ["blocks.1"])
    with pytest.raises(TypeError, match="safety_checker"):
        pag.pag_pipeline(diffusers.HunyuanDiTPipeline).__mro__[2](**parts)


def inpainting(cls: Any, parts: dict[str, Any]) -> Any:
    pipe = cls(**parts, requires_safety_checker=False, pag_applied_layers="mid")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inpaint(pipe: Any, **settings: Any) -> Any:
    mask = (zoo.picture(channels=1) > 0.5).float()
    run: dict[str, Any] = {"image": zoo.picture(), "mask_image": mask, "height": 32, "width": 32, "steps": 5}
    return zoo.sample(pipe, **(run | zoo.prompts() | settings))


def test_inpainting_has_the_strength_of_diffusers_class() -> None:
    """The plain class has another default."""
    parts = zoo.pipeline("StableDiffusionInpaintPipeline").components
    expected = inpaint(inpainting(diffusers.StableDiffusionPAGInpaintPipeline, parts))
    ours = inpainting(pag.StableDiffusionPAGInpaintPipeline, parts)
    assert zoo.difference(inpaint(ours), expected) <= 1e-4
    assert zoo.difference(inpaint(ours, strength=1.0), expected) > 1e-2


@contextmanager
def rescaled(pipe: Any, g: float, s: float, amount: float) -> Generator[None]:
    """Both rows are the finished result, which the pipeline's formula leaves as it is."""
    plain = pipe.unet.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        u, c = plain(*args, **kwargs)[0].chunk(2)
        with reference.perturbed(pipe.unet, ["mid_block.attentions.0.transformer_blocks.0.attn1"]):
            worse = plain(*args, **kwargs)[0].chunk(2)[1]
        return (torch.cat([rescale_noise_cfg(u + g * (c - u) + s * (c - worse), c, amount)] * 2),)

    pipe.unet.forward = forward
    try:
        yield
    finally:
        del pipe.unet.forward


def test_inpainting_rescales_as_diffusers_class_means_to() -> None:
    """diffusers' class has the argument, which the plain class has not, but fails with PAG on."""
    broken = zoo.pipeline("StableDiffusionInpaintPipeline").components  # its network stays perturbed
    with pytest.raises(UnboundLocalError, match="noise_pred_text"):
        inpaint(inpainting(diffusers.StableDiffusionPAGInpaintPipeline, broken), guidance_rescale=0.5)
    parts = zoo.pipeline("StableDiffusionInpaintPipeline").components
    ours = inpainting(pag.StableDiffusionPAGInpaintPipeline, parts)
    plain = zoo.pipeline("StableDiffusionInpaintPipeline", **parts)
    with rescaled(plain, g=4.0, s=3.0, amount=0.5):
        expected = inpaint(plain, strength=0.9999)
    assert zoo.difference(inpaint(ours, guidance_rescale=0.5), expected) <= 1e-4
    assert zoo.difference(inpaint(ours), expected) > 1e-2
    without_cfg = inpaint(ours, guidance_scale=0.0)
    assert torch.equal(inpaint(ours, guidance_scale=0.0, guidance_rescale=0.5), without_cfg)


def test_rescaling_that_the_plain_class_lacks_needs_guidance() -> None:
    ours = inpainting(pag.StableDiffusionPAGInpaintPipeline, zoo.pipeline("StableDiffusionInpaintPipeline").components)
    before = zoo.state_of(ours.unet)
    with pytest.raises(ValueError, match=r"guidance_rescale=0.5 needs PAG"):
        inpaint(ours, guidance_rescale=0.5, pag_scale=0.0)
    assert zoo.state_of(ours.unet) == before
    assert "guidance_rescale" not in inspect.signature(diffusers.StableDiffusionInpaintPipeline.__call__).parameters


def test_arguments_of_the_peer_are_documented() -> None:
    for name in NAMES:
        text = inspect.getdoc(getattr(pag, name).__call__) or ""
        for argument in ("pag_scale", "pag_adaptive_scale"):
            assert re.search(rf"^ +{argument} \(`float`, \*optional\*, defaults to", text, re.MULTILINE), name
