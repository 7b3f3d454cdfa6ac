"""diffusers' PAG pipelines of single-stream transformers give the same latents as guidance on its plain pipelines."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

import pag
from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.cross_attention import hunyuan, pixart
from tests.runs import RUNS, guided
from tests.runs._run import pipeline

TOLERANCE = 1e-4
"""Relative to the largest latent."""
S = 3.0

with_and_without_cfg = pytest.mark.parametrize("guidance_scale", [1.0, 5.0], ids=["alone", "cfg"])


def peer(ours: Any) -> Any:
    """diffusers' PAG pipeline of the same components."""
    name = type(ours).__name__.removesuffix("Pipeline") + "PAGPipeline"
    options = {"requires_safety_checker": False} if "Hunyuan" in name else {}
    return getattr(diffusers, name)(**ours.components, **options)


def compare(ours: Any, layers: list[str], *, adaptive_scale: float = 0.0, theirs: Any = None, **arguments: Any) -> None:
    """Both on the same networks, noise and settings."""
    run = RUNS[type(ours).__name__]
    theirs = theirs or peer(ours)
    theirs.set_pag_applied_layers(layers, theirs._pag_attn_processors)
    expected = run.sample(theirs, pag_scale=S, pag_adaptive_scale=adaptive_scale, **arguments)
    with pag.guide(ours, S, layers=layers, adaptive_scale=adaptive_scale):
        assert zoo.difference(run.sample(ours, **arguments), expected) <= TOLERANCE


def pixart_sigma(**config: Any) -> Any:
    transformer = strong(lambda: pixart(**config))
    return pipeline("PixArtSigmaPipeline", transformer=transformer, scheduler=zoo.ddim())


def sana() -> Any:
    made = RUNS["SanaPipeline"].make()
    parts = made.components | {"transformer": strong(NETWORKS["sana"].make)}
    return type(made)(**(parts | {"scheduler": FlowMatchEulerDiscreteScheduler()}))


def hunyuan_dit(**config: Any) -> Any:
    transformer = strong(lambda: hunyuan(**config))
    return pipeline("HunyuanDiTPipeline", transformer=transformer, scheduler=zoo.ddim(), requires_safety_checker=False)


def hunyuan_dit_1_2() -> Any:
    return hunyuan_dit(use_style_cond_and_image_meta_size=False)


PLAIN: list[Callable[[], Any]] = [pixart_sigma, sana, hunyuan_dit_1_2]


@pytest.mark.parametrize("make", PLAIN)
def test_the_comparison_sees_guidance(make: Callable[[], Any]):
    ours = make()
    run = RUNS[type(ours).__name__]
    plain = run.sample(ours)
    with pag.guide(ours, S, layers="1"):
        assert zoo.difference(run.sample(ours), plain) > 100 * TOLERANCE


@with_and_without_cfg
@pytest.mark.parametrize("layers", [["blocks.1"], ["blocks.0", "blocks.2"], ["attn1"]], ids=str)
@pytest.mark.parametrize("make", PLAIN)
def test_layers(make: Callable[[], Any], layers: list[str], guidance_scale: float):
    compare(make(), layers, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("make", [sana, hunyuan_dit_1_2])
def test_adaptive_scale(make: Callable[[], Any], guidance_scale: float):
    compare(make(), ["blocks.1"], adaptive_scale=0.003, guidance_scale=guidance_scale)


@with_and_without_cfg
@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_guidance_rescale(amount: float, guidance_scale: float):
    compare(hunyuan_dit_1_2(), ["blocks.1"], guidance_rescale=amount, guidance_scale=guidance_scale)


@pytest.mark.parametrize("make", [pixart_sigma, sana])
def test_two_images(make: Callable[[], Any]):
    compare(make(), ["blocks.1"], num_images_per_prompt=2)


def test_sizes_and_style_of_hunyuan_dit():
    compare(hunyuan_dit(), ["blocks.1"], guidance_scale=5.0)


class TestWhereThePeerIsWrong:
    """What diffusers' class does, and what is done here instead."""

    def test_a_block_means_others_too(self):
        """`blocks.1`, its default, is found in `blocks.10` and `blocks.11` as well."""
        ours = pixart_sigma(num_layers=12)
        theirs, run = peer(ours), RUNS["PixArtSigmaPipeline"]
        three = run.sample(theirs, pag_scale=S)
        with pag.guide(ours, S, layers=["1", "10", "11"]):
            assert zoo.difference(run.sample(ours), three) <= TOLERANCE
        with guided(replace(run, path="transformer_blocks.1.attn1"), ours, S):
            one = run.sample(ours)
        with pag.guide(ours, S, layers="blocks.1") as guide:
            assert [site.block for site in guide.sites] == ["1"]
            assert zoo.difference(run.sample(ours), one) <= TOLERANCE
        assert zoo.difference(three, one) > 100 * TOLERANCE

    @with_and_without_cfg
    def test_an_adaptive_scale_raises(self, guidance_scale: float):
        """PixArt-Sigma asks for the scale at a timestep for each row, of which all are the same."""
        settings = {"pag_scale": S, "pag_adaptive_scale": 0.003, "guidance_scale": guidance_scale}
        with pytest.raises(RuntimeError, match="Boolean value of Tensor"):
            RUNS["PixArtSigmaPipeline"].sample(peer(pixart_sigma()), **settings)
        theirs = peer(pixart_sigma())
        scale_at = type(theirs)._get_pag_scale
        theirs._get_pag_scale = lambda t: scale_at(theirs, t[0])  # pyright: ignore
        compare(pixart_sigma(), ["blocks.1"], adaptive_scale=0.003, theirs=theirs, guidance_scale=guidance_scale)

    @with_and_without_cfg
    def test_norms_of_queries_and_keys_are_left_out(self, guidance_scale: float):
        """Sana 1.5: the rows that are not perturbed are wrong as well, even if the scale is next to nothing."""
        run = RUNS["SanaPipeline"]
        ours = run.make()
        ours.scheduler = FlowMatchEulerDiscreteScheduler()
        plain = run.sample(ours, guidance_scale=guidance_scale)
        nearly_off = run.sample(peer(ours), pag_scale=1e-9, guidance_scale=guidance_scale)
        assert zoo.difference(nearly_off, plain) > 10 * TOLERANCE
        with pag.guide(ours, 1e-9, layers="1"):
            assert zoo.difference(run.sample(ours, guidance_scale=guidance_scale), plain) <= TOLERANCE
        with guided(run, ours, S):
            expected = run.sample(ours, guidance_scale=guidance_scale)
        with pag.guide(ours, S, layers=run.path):
            assert zoo.difference(run.sample(ours, guidance_scale=guidance_scale), expected) <= TOLERANCE

    def test_sizes_and_style_without_cfg(self):
        """HunyuanDiT 1.1 gets three rows of sizes and styles, though there are two rows."""
        run, ours = RUNS["HunyuanDiTPipeline"], hunyuan_dit()
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            run.sample(peer(hunyuan_dit()), pag_scale=S, guidance_scale=1.0)
        with guided(run, ours, S):
            expected = run.sample(ours, guidance_scale=1.0)
        with pag.guide(ours, S, layers=run.path):
            assert zoo.difference(run.sample(ours, guidance_scale=1.0), expected) <= TOLERANCE
