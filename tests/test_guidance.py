"""The configuration: what it refuses, and its trip through JSON."""

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from pag import Guidance

FULL = Guidance(scale=2.5, layers=("m0", "up_blocks.1"), start=0.1, stop=0.9, adaptive_scale=0.002, share_rows=False)


@pytest.mark.parametrize("guidance", [Guidance(), FULL], ids=["default", "full"])
def test_json_gives_back_equal_settings(guidance: Guidance):
    assert Guidance.from_json(guidance.to_json()) == guidance
    assert hash(Guidance.from_json(guidance.to_json())) == hash(guidance)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_numbers_of_numpy_are_as_good_as_those_of_python(number: Any):
    guidance = Guidance(scale=number(2), stop=number(1), adaptive_scale=number(0))
    assert guidance == Guidance(2.0)
    assert Guidance.from_json(guidance.to_json()) == guidance


def test_json_holds_every_setting_in_a_fixed_order():
    assert list(json.loads(FULL.to_json())) == list(vars(FULL))


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Guidance().scale = 1.0  # pyright: ignore


def test_unknown_settings_are_named_with_the_possible_ones():
    with pytest.raises(ValueError, match=r"Unknown settings \['pag_scale'\].*scale, layers"):
        Guidance.from_json('{"pag_scale": 3.0}')


@pytest.mark.parametrize("text", ["[]", "3", "null", '"scale"'])
def test_json_that_is_no_object_is_refused(text: str):
    with pytest.raises(ValueError, match="object"):
        Guidance.from_json(text)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 10**400])
def test_a_scale_out_of_range_is_refused(value: float):
    with pytest.raises(ValueError, match="scale must be a finite number, 0 or more"):
        Guidance(scale=value)


@pytest.mark.parametrize("value", ["3", True, None])
def test_a_scale_that_is_no_number_is_refused(value: Any):
    with pytest.raises(TypeError, match="scale must be a finite number, 0 or more"):
        Guidance(scale=value)


def test_an_unknown_perturbation_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'blur' does not exist. There is: identity"):
        Guidance(perturbation="blur")


@pytest.mark.parametrize("layers", ["mid", (0,), [None], 3])
def test_layers_are_a_sequence_of_names(layers: Any):
    """A bare string is a sequence of letters, and would be read as the layers `m`, `i` and `d`."""
    with pytest.raises(TypeError, match="layers must be"):
        Guidance(layers=layers)


def test_a_list_of_layers_is_as_good_as_a_tuple():
    assert Guidance(layers=["m0"]) == Guidance(layers=("m0",))  # pyright: ignore
