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


@pytest.mark.parametrize("name", RUNS_OF_THEIR_OWN)
def test_progress_begins_at_noise_and_grows(name: str, monkeypatch: pytest.MonkeyPatch):
    seen: list[float] = []

    def at(self: Schedule, progress: float) -> float:
        seen.append(progress)
        return self.scale

    monkeypatch.setattr(Schedule, "at", at)
    run = RUNS[name]
    pipe = run.make()
    with pag.guide(pipe, 1.0, layers=run.path, stop=0.9):
        run.sample(pipe, **RUNS_OF_THEIR_OWN[name])
    assert seen == sorted(seen)
    assert 0 <= seen[0] < seen[-1] <= 1
    if "VideoToVideo" not in name:  # which begins from a video with noise
        assert seen[0] < 0.1
