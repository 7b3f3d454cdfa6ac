"""The scale over the noise levels."""

import math
from typing import Any

import pytest

from pag.schedule import Schedule


@pytest.mark.parametrize("timestep", [999, 500, 0])
def test_a_plain_schedule_is_constant(timestep: int):
    assert Schedule(3.0).at(1 - timestep / 1000) == 3.0
    assert not Schedule(3.0).varies


@pytest.mark.parametrize(("timestep", "scale"), [(1000, 3.0), (999, 2.99), (800, 1.0), (700, 0.0), (10, 0.0)])
def test_the_adaptive_scale_falls_with_the_timestep_and_stops_at_zero(timestep: int, scale: float):
    schedule = Schedule(3.0, adaptive_scale=0.01)
    assert schedule.at(1 - timestep / 1000) == pytest.approx(scale, abs=1e-9)
    assert schedule.varies


@pytest.mark.parametrize(("progress", "on"), [(0.0, False), (0.2, True), (0.59, True), (0.6, False), (1.0, False)])
def test_an_interval_holds_its_start_and_not_its_stop(progress: float, on: bool):
    assert Schedule(3.0, start=0.2, stop=0.6).at(progress) == (3.0 if on else 0.0)


def test_the_whole_interval_holds_the_clean_image():
    assert Schedule(3.0, start=0.5, stop=1.0).at(1.0) == 3.0


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match=r"start=0\.5 must be below stop=0\.5"):
        Schedule(3.0, start=0.5, stop=0.5)


@pytest.mark.parametrize("name", ["scale", "start", "stop", "adaptive_scale"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_a_number_out_of_range_is_named(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} must be a.*number.*{value!r}"):
        Schedule(**{"scale": 3.0, name: value})


@pytest.mark.parametrize("name", ["start", "stop"])
def test_progress_ends_at_one(name: str):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1, but is 1.5"):
        Schedule(**{"scale": 3.0, name: 1.5})


@pytest.mark.parametrize("name", ["scale", "start", "stop", "adaptive_scale"])
@pytest.mark.parametrize("value", ["3", True, None, [3.0]])
def test_what_is_no_number_is_named_with_its_type(name: str, value: Any):
    with pytest.raises(TypeError, match=rf"{name} must be a.*number.*\({type(value).__name__}\)"):
        Schedule(**{"scale": 3.0, name: value})
