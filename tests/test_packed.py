"""A network that takes one sample packed into a sequence without rows is called twice for the prompt."""

from typing import Any

import pytest

import pag
from tests.runs import RUNS

RUN = RUNS["Cosmos3OmniPipeline"]


def test_the_perturbed_prediction_costs_a_forward_but_for_its_attention():
    model = RUN.make().transformer
    extra = pag.layer_costs(model)[1].extra
    assert [cost.extra for cost in pag.layer_costs(model)] == [extra] * 3
    assert pag.cost(model, "1", cfg=False).executed == pytest.approx(1 + extra, abs=0.02)
    assert pag.cost(model, "1", cfg=True).executed == pytest.approx(2 + extra, abs=0.02)


def test_the_prompt_alone_is_called_for_twice():
    pipe, calls = RUN.make(), 0
    plain = pipe.transformer.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return plain(*args, **kwargs)

    pipe.transformer.forward = counting
    with pag.guide(pipe, 3.0, layers=RUN.path):
        RUN.sample(pipe)
    assert calls == 2 * 3
