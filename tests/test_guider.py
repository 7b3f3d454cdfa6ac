"""The guider on whole runs of modular pipelines: each gives what separate calls and the formula give."""

import pytest
from diffusers.guiders import ClassifierFreeGuidance

from pag import PerturbedAttentionGuider
from tests import zoo
from tests.modular import RUNS, Formula

G, S = 4.0, 3.0

every_run = pytest.mark.parametrize("name", RUNS)


@every_run
@pytest.mark.parametrize("g", [None, G], ids=["alone", "cfg"])
def test_a_run_gives_the_formula(name: str, g: float | None):
    run = RUNS[name]
    pipe = run.make()
    plain = run.sample(pipe, Formula(run, g))
    expected = run.sample(pipe, Formula(run, g, S))
    assert zoo.difference(expected, plain) > 1e-3, "guidance cannot be seen here"
    scale = 1.0 if g is None else g
    assert zoo.difference(run.sample(pipe, PerturbedAttentionGuider(scale, S, run.path)), expected) <= 1e-4
    off = PerturbedAttentionGuider(scale, 0.0, run.path)
    assert run.sample(pipe, off).equal(run.sample(pipe, ClassifierFreeGuidance(scale)))
