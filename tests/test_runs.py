"""Guidance on whole runs of diffusers pipelines: each gives what separate forwards and the formula give."""

import pytest

import pag
from tests import zoo
from tests.groups import building
from tests.runs import RUNS, guided

S = 3.0


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_formula(name: str):
    run = RUNS[name]
    with building():
        pipe = run.make()
    plain = run.sample(pipe)
    with guided(run, pipe, S):
        expected = run.sample(pipe)
    assert zoo.difference(expected, plain) > 10 * run.tolerance, "guidance cannot be seen here"
    with pag.guide(pipe, S, layers=run.path):
        ours = run.sample(pipe)
    assert zoo.difference(ours, expected) <= run.tolerance
    assert run.sample(pipe).equal(plain)
