"""Inputs are checked as far as a pipeline's own signature and denoiser tell what they must be."""

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from pag.pipelines._check import check_names, check_prompts
from tests import zoo
from tests.denoisers import NETWORKS

FLUX = SimpleNamespace(transformer=NETWORKS["flux"].model())


def call_of(name: str) -> Any:
    return getattr(diffusers, name).__call__


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("FluxPipeline", {"prompt": ["a", "b"], "prompt_embeds": torch.zeros(2, 7, 4096)}),
        ("FluxPipeline", {"prompt_embeds": torch.zeros(9)}),  # its width is not known here
        ("AnimateDiffPipeline", {"prompt": {0: "a", 8: "b"}}),  # by frame
        ("ZImagePipeline", {"prompt_embeds": [torch.zeros(7, 16)]}),  # a list by its signature
        ("DDPMPipeline", {}),
    ],
)
def test_what_may_be_right_is_left_to_the_pipeline(name: str, given: dict[str, Any]) -> None:
    check_prompts(FLUX, call_of(name), (), given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"prompt": 3}, TypeError, "prompt must be a string or a list of strings, but holds 3"),
        ({"negative_prompt": ["a", None]}, TypeError, "negative_prompt must be a string .* holds None"),
        ({"prompt": []}, ValueError, "prompt is an empty list"),
        ({"prompt_embeds": [[1.0]]}, TypeError, "prompt_embeds must be a tensor, but is list"),
    ],
)
def test_what_is_wrong_for_any_denoiser(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_prompts(FLUX, call_of("FluxPipeline"), (), given)


def test_the_width_of_a_projected_text_is_not_known() -> None:
    call = call_of("StableDiffusionPipeline")
    wrong = {"prompt_embeds": torch.zeros(1, 5, 9)}
    with pytest.raises(ValueError, match=r"must be of shape \(rows, tokens, 16\), but is of \(1, 5, 9\)"):
        check_prompts(SimpleNamespace(unet=zoo.unet()), call, (), wrong)
    projecting = zoo.unet(encoder_hid_dim=9, encoder_hid_dim_type="text_proj")
    check_prompts(SimpleNamespace(unet=projecting), call, (), wrong)


def test_names() -> None:
    """`**kwargs` of diffusers' pipelines take what it calls by old names, and swallow all else."""
    call = call_of("StableDiffusionXLPipeline")
    check_names(call, ["pag_scale"], {"callback": None, "pag_scale": 1.0, "prompt": ""})
    with pytest.raises(TypeError, match=r"no argument 'guidance_scal'. Nearest: guidance_scale"):
        check_names(call, ["pag_scale"], {"guidance_scal": 1.0})
    with pytest.raises(TypeError, match=r"no argument 'xyz'. Nearest: see help"):
        check_names(call, ["pag_scale"], {"xyz": 1.0})
