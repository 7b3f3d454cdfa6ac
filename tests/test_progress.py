"""How far a run has come, as pipelines tell it that have a clock of their own."""

import pytest

import pag
from pag.schedule import Schedule
from tests.runs import RUNS

STEPS = {
    "DiTPipeline": [0.499, 0.999],  # t/1000, from 501
    "LuminaPipeline": [0.0, 0.999],  # its network's time runs the other way
    "Lumina2Pipeline": [0.0, 0.0, 0.5, 0.5],  # two calls a step
    "SanaPipeline": [0.001, 0.501],
    "SanaSprintPipeline": [0.0, 0.5],  # its scheduler's time is an angle: the share of the steps
    "StableAudioPipeline": [0.0, 0.5],  # the logarithm of σ: the share of the steps
    "StableAudio3Pipeline": [0.0, 0.109],  # t from 1 to 0
    "LongCatAudioDiTPipeline": [0.0, 0.0, 0.5, 0.5],  # t from 0 to 1
    "AceStepPipeline": [0.0, 0.25],  # t from 1 to 0, under a name of its own
}


@pytest.mark.parametrize("name", STEPS)
def test_progress(name: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[float] = []
    at = Schedule.at

    def watched(schedule: Schedule, progress: float) -> float:
        seen.append(progress)
        return at(schedule, progress)

    monkeypatch.setattr(Schedule, "at", watched)
    pipe = RUNS[name].make()
    with pag.guide(pipe, 3.0, layers=RUNS[name].path, adaptive_scale=1e-6):
        RUNS[name].sample(pipe)
    assert seen == pytest.approx(STEPS[name], abs=1e-3)
