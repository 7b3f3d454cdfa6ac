"""Where a run is, told by what its pipeline holds: from noise on, whichever way its timesteps count."""

from typing import Any

import pytest

import pag
from pag.schedule import Schedule
from tests.runs import RUNS

ONE_WINDOW = {"temporal_tile_size": 80}
RUNS_OF_THEIR_OWN: dict[str, dict[str, Any]] = {
    "MochiPipeline": {},  # counts up
    "LTXI2VLongMultiPromptPipeline": ONE_WINDOW,  # tells a timestep per token, of which some are given
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": {},  # and one per frame
    "WanImageToVideoPipeline: a timestep per token": {},
    "WanPipeline: two transformers": {},
    "LTX2ConditionPipeline": {},
    "CogVideoXVideoToVideoPipeline": {},
}


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


@pytest.mark.parametrize("name", RUNS_OF_THEIR_OWN)
def test_progress_begins_at_noise_and_grows(name: str, monkeypatch: pytest.MonkeyPatch):
    seen = watched(name, monkeypatch, **RUNS_OF_THEIR_OWN[name])
    assert seen == sorted(seen)
    assert 0 <= seen[0] < seen[-1] <= 1
    if "VideoToVideo" not in name:  # which begins from a video with noise
        assert seen[0] < 0.1


@pytest.mark.parametrize("name", STEPS)
def test_progress_is_what_the_pipeline_means(name: str, monkeypatch: pytest.MonkeyPatch):
    assert watched(name, monkeypatch) == pytest.approx(STEPS[name], abs=1e-3)


def watched(name: str, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> list[float]:
    """Progress in every call of a denoiser."""
    seen: list[float] = []

    def at(self: Schedule, progress: float) -> float:
        seen.append(progress)
        return self.scale

    monkeypatch.setattr(Schedule, "at", at)
    run = RUNS[name]
    pipe = run.make()
    with pag.guide(pipe, 1.0, layers=run.path, stop=0.9):
        run.sample(pipe, **arguments)
    return seen
