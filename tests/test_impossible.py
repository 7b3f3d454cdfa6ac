"""Pipelines whose arithmetic takes no addition, as they are configured, say so."""

from typing import Any

import pytest

import pag
from tests import zoo
from tests.runs import RUNS

RUN = RUNS["HeliosPyramidPipeline"]


def zero_star() -> Any:
    pipe = RUN.make()
    pipe.register_to_config(is_cfg_zero_star=True)
    return pipe


def test_cfg_zero_star_is_refused():
    pipe = zero_star()
    with pag.guide(pipe, 3.0, layers=RUN.path), pytest.raises(TypeError, match="CFG-Zero"):
        RUN.sample(pipe)


def test_without_cfg_nothing_is_in_the_way():
    pipe = zero_star()
    with pag.guide(pipe, 3.0, layers=RUN.path):
        guided = RUN.sample(pipe, guidance_scale=1.0)
    assert zoo.difference(guided, RUN.sample(pipe, guidance_scale=1.0)) > 1e-3
