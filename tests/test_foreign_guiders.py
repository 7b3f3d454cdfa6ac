"""Pipelines that leave the combination of predictions to a guider: `pag.guide` refuses where it would be wrong."""

import diffusers
import pytest

import pag
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
