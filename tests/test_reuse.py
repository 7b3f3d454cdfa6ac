"""Reuse of deltas: what a run gives is what the formula gives with those deltas, and the rows are not run."""

import pytest

import pag
from tests import zoo
from tests.groups import building
from tests.modular import RUNS as MODULAR
from tests.modular._run import Formula
from tests.runs import RUNS, guided

S = 3.0
REUSE = pag.Reuse(pag=2, cfg=3)


OF_THEIR_OWN_STEPS = ("SkyReelsV2DiffusionForcingVideoToVideoPipeline",)
"""Each block of frames has its own, which the scheduler does not count."""
OF_TWO_STEPS = ("SanaSprint", "truncated", "CFG in the second half", "CFG in an interval", "cover", "KleinKV")
"""In their names, of runs whose description fits two steps only: later ones have other inputs, or other rows."""
TOO_SENSITIVE = (
    "IFImg2ImgPipeline",
    "KandinskyImg2ImgPipeline",
    "KandinskyImg2ImgCombinedPipeline",
    "KandinskyV22ControlnetImg2ImgPipeline",
)
"""In four steps the rounding of any guided run is above the bound."""
KEEPS_KEYS = ("QwenImage21Pipeline", "QwenImage21Pipeline: edit")
OTHERS = [
    name
    for name in RUNS
    if not any(part in name for part in (*OF_TWO_STEPS, *OF_THEIR_OWN_STEPS, *TOO_SENSITIVE, *KEEPS_KEYS))
]
FIRST = {name.partition(":")[0]: name for name in reversed(OTHERS)}
"""One run for each class of pipelines; the others take minutes."""


@pytest.mark.parametrize(
    "name", [name if name in FIRST.values() else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_a_run_gives_the_formula_with_the_deltas_of_earlier_steps(name: str):
    run = RUNS[name]
    steps = {} if run.steps is None else {"num_inference_steps": 4}
    with building():
        pipe = run.make()
    plain = run.sample(pipe, **steps)
    count = len(pipe.scheduler.timesteps)
    with guided(run, pipe, S, REUSE, min(count, getattr(pipe, "_num_timesteps", count))):
        expected = run.sample(pipe, **steps)
    with pag.guide(pipe, S, layers=run.path, reuse=REUSE):
        ours = run.sample(pipe, **steps)
        again = run.sample(pipe, **steps)
    assert zoo.difference(ours, expected) <= run.tolerance
    assert again.equal(ours)
    assert run.sample(pipe, **steps).equal(plain)


@pytest.mark.parametrize("name", KEEPS_KEYS)
def test_rows_whose_keys_are_kept_cannot_be_left_out(name: str):
    run = RUNS[name]
    with building():
        pipe = run.make()
    plain = run.sample(pipe)
    with pag.guide(pipe, S, layers=run.path, reuse=REUSE), pytest.raises(RuntimeError, match=r"keeps keys.*Reuse\(pag"):
        run.sample(pipe, num_inference_steps=4)
    with pag.guide(pipe, S, layers=run.path, reuse=pag.Reuse(pag=2)):
        run.sample(pipe, num_inference_steps=4)
    assert run.sample(pipe).equal(plain)


@pytest.mark.parametrize("name", MODULAR)
def test_the_guider_reuses_the_same_deltas(name: str):
    run = MODULAR[name]
    steps = {} if run.steps is None else {"num_inference_steps": 5}
    pipe, g = run.make(), None if run.distilled else 4.0
    expected = run.sample(pipe, *[Formula(run, g, S, reuse=REUSE) for _ in run.guiders], **steps)
    guiders = [pag.PerturbedAttentionGuider(g or 1.0, S, run.path, reuse=REUSE) for _ in run.guiders]
    ours = run.sample(pipe, *guiders, **steps)
    assert zoo.difference(ours, expected) <= 1e-4
    assert run.sample(pipe, *guiders, **steps).equal(ours)
