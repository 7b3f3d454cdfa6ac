"""Pipelines that leave the combination of predictions to a guider: `pag.guide` refuses where it would be wrong."""

import diffusers
import pytest

import pag
from tests import zoo
from tests.runs import RUNS

RUN = RUNS["HunyuanVideo15Pipeline"]
OTHERS = ("AdaptiveProjectedGuidance", "ClassifierFreeZeroStarGuidance", "TangentialClassifierFreeGuidance")


@pytest.mark.parametrize("name", OTHERS)
def test_a_guider_with_another_combination_is_refused(name: str):
    pipe = RUN.make()
    pipe.guider = getattr(diffusers, name)()
    with pytest.raises(TypeError, match=f"guider is {name}, .*pag.PerturbedAttentionGuider"):
        pag.guide(pipe, 3.0).attach()
    RUN.sample(pipe)


def test_a_guider_that_comes_later_is_refused():
    pipe = RUN.make()
    with pag.guide(pipe, 3.0):
        pipe.guider = diffusers.AdaptiveProjectedGuidance()
        with pytest.raises(TypeError, match="guider is AdaptiveProjectedGuidance"):
            RUN.sample(pipe)


def test_the_guider_that_the_pipeline_chooses_counts():
    run = RUNS["HunyuanImagePipeline"]
    pipe = run.make()
    pipe.ocr_guider = diffusers.AdaptiveProjectedMixGuidance()  # for prompts with words to be drawn
    with pag.guide(pipe, 3.0), pytest.raises(TypeError, match="guider is AdaptiveProjectedMixGuidance"):
        run.sample(pipe)
    pipe.ocr_guider = None
    with pag.guide(pipe, 3.0):
        run.sample(pipe)


def test_a_guider_that_is_switched_off_is_none():
    run = RUNS["HunyuanImagePipeline: no guider"]
    pipe = run.make()
    with pag.guide(pipe, 3.0):
        expected = run.sample(pipe)
    pipe.guider = diffusers.AdaptiveProjectedMixGuidance(enabled=False)
    with pag.guide(pipe, 3.0):
        assert run.sample(pipe).equal(expected)


@pytest.mark.parametrize("name", ["HunyuanVideo15Pipeline", "MotifVideoPipeline", "MotifVideoImage2VideoPipeline"])
def test_our_own_guider_gives_the_same(name: str):
    run = RUNS[name]
    pipe = run.make()
    with pag.guide(pipe, 3.0, layers=run.path):
        guided = run.sample(pipe)
    pipe.guider = pag.PerturbedAttentionGuider(guidance_scale=4.0, pag_scale=3.0, pag_applied_layers=run.path)
    assert zoo.difference(run.sample(pipe), guided) <= 1e-4
