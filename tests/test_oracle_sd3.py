"""diffusers' own PAG pipelines of Stable Diffusion 3 give the same latents as guidance on its plain pipelines."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

import pag
from tests import zoo
from tests.denoisers._network import strong
from tests.denoisers.sd3 import make
from tests.runs import RUNS, guided
from tests.runs._run import pipeline
from tests.runs.sd3 import PICTURE, embeddings

S = 3.0
TOLERANCE = 1e-4
"""Relative to the largest latent."""
PEERS = {
    "StableDiffusion3Pipeline": "StableDiffusion3PAGPipeline",
    "StableDiffusion3Img2ImgPipeline": "StableDiffusion3PAGImg2ImgPipeline",
}

with_and_without_cfg = pytest.mark.parametrize("guidance_scale", [0.0, 5.0], ids=["alone", "cfg"])


def build(name: str, more: dict[str, Any] | None = None, **config: Any) -> Any:
    """A pipeline on a network of Stable Diffusion 3.0, if nothing else is said."""
    components: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": zoo.vae(shift_factor=0.1),
        "transformer": strong(lambda: make(**config)),
    }
    pipe = pipeline(name, **(components | (more or {})))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: Any, **arguments: Any) -> Tensor:
    given: dict[str, Any] = embeddings() | {"num_inference_steps": 3, "output_type": "latent"} | arguments
    return pipe(generator=torch.Generator().manual_seed(0), **given).images


def theirs(name: str, layers: list[str], s: float = S, a: float = 0.0, *, config: Any = None, **arguments: Any) -> Any:
    pipe = build(PEERS[name], {"pag_applied_layers": layers}, **(config or {}))
    return sample(pipe, pag_scale=s, pag_adaptive_scale=a, **arguments)


def ours(name: str, layers: list[str], s: float = S, a: float = 0.0, *, config: Any = None, **arguments: Any) -> Any:
    pipe = build(name, **(config or {}))
    with pag.guide(pipe, s, layers=layers, adaptive_scale=a):
        return sample(pipe, **arguments)


RUNNERS: list[Callable[..., Tensor]] = [ours, theirs]
LAYERS = [["blocks.0"], ["blocks.1"], ["blocks.2"], ["blocks.0", "blocks.2"], ["blocks.(0|1)"], ["attn"]]


@with_and_without_cfg
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_layers(layers: list[str], guidance_scale: float):
    both = [run("StableDiffusion3Pipeline", layers, guidance_scale=guidance_scale) for run in RUNNERS]
    assert zoo.difference(*both) <= TOLERANCE
    plain = sample(build("StableDiffusion3Pipeline"), guidance_scale=guidance_scale)
    assert zoo.difference(both[0], plain) > 100 * TOLERANCE


@with_and_without_cfg
@pytest.mark.parametrize("adaptive", [0.001, 0.005])
def test_adaptive_scale(adaptive: float, guidance_scale: float):
    given: Any = {"a": adaptive, "guidance_scale": guidance_scale}
    assert zoo.difference(*(run("StableDiffusion3Pipeline", ["blocks.1"], **given) for run in RUNNERS)) <= TOLERANCE


@with_and_without_cfg
@pytest.mark.parametrize("strength", [0.4, 0.9])
def test_image_to_image(strength: float, guidance_scale: float):
    given = {"image": PICTURE, "strength": strength, "guidance_scale": guidance_scale}
    both = [run("StableDiffusion3Img2ImgPipeline", ["blocks.1"], **given) for run in RUNNERS]
    assert zoo.difference(*both) <= TOLERANCE


@with_and_without_cfg
def test_several_prompts(guidance_scale: float):
    given = {name: torch.cat([value, value.flip(-1)]) for name, value in embeddings().items()}
    both = [run("StableDiffusion3Pipeline", ["blocks.1"], guidance_scale=guidance_scale, **given) for run in RUNNERS]
    assert zoo.difference(*both) <= TOLERANCE


QK_NORM: dict[str, Any] = {"qk_norm": "rms_norm"}


class TestWhereThePeerIsWrong:
    """What diffusers' class does, and what is done here instead."""

    def test_it_forgets_the_norm_of_queries_and_keys_in_rows_that_are_not_perturbed(self):
        """Stable Diffusion 3.5 has that norm. With hardly any guidance the image must be that of the plain pipeline."""
        nearly_none: tuple[Any, ...] = ("StableDiffusion3Pipeline", ["blocks.1"], 1e-7)
        plain = sample(build("StableDiffusion3Pipeline", **QK_NORM))
        assert zoo.difference(theirs(*nearly_none, config=QK_NORM), plain) > 1e-2
        assert zoo.difference(ours(*nearly_none, config=QK_NORM), plain) <= TOLERANCE
        assert zoo.difference(theirs(*nearly_none), sample(build("StableDiffusion3Pipeline"))) <= TOLERANCE

    @with_and_without_cfg
    def test_the_formula_with_that_norm(self, guidance_scale: float):
        run = replace(
            RUNS["StableDiffusion3Pipeline"], arguments=lambda: embeddings() | {"guidance_scale": guidance_scale}
        )
        pipe = build("StableDiffusion3Pipeline", **QK_NORM)
        with guided(run, pipe, S):
            expected = run.sample(pipe)
        with pag.guide(pipe, S, layers=run.path):
            assert zoo.difference(run.sample(pipe), expected) <= TOLERANCE

    @pytest.mark.parametrize("run", [ours, theirs])
    def test_it_cannot_perturb_the_second_attention_of_dual_blocks(self, run: Callable[..., Tensor]):
        """Its default layer is one of them in 3.5; what is right is shown by the runs of 3.5."""
        arguments: Any = {"config": QK_NORM | {"dual_attention_layers": (0, 1)}}
        if run is theirs:
            with pytest.raises(AttributeError, match="ndim"):
                run("StableDiffusion3Pipeline", ["blocks.1"], **arguments)
        else:
            assert run("StableDiffusion3Pipeline", ["blocks.1"], **arguments).isfinite().all()

    def test_a_block_is_also_every_block_whose_number_begins_alike(self):
        """`blocks.1` is its default."""
        twelve: Any = {"config": {"num_layers": 12}}
        expected = theirs("StableDiffusion3Pipeline", ["blocks.1"], **twelve)
        all_three = ours("StableDiffusion3Pipeline", ["blocks.1", "blocks.10", "blocks.11"], **twelve)
        assert zoo.difference(all_three, expected) <= TOLERANCE
        assert zoo.difference(ours("StableDiffusion3Pipeline", ["blocks.1"], **twelve), expected) > 1e-2
        (site,) = pag.guide(build("StableDiffusion3Pipeline", num_layers=12), layers="blocks.1").sites
        assert site.path == "transformer_blocks.1.attn"
