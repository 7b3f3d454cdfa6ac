"""The shape checks that the tests run with."""

from typing import cast

import pytest
import torch

from pag import combine


def test_a_wrong_shape_is_an_error():
    with pytest.raises(TypeError, match="rows"):
        combine.delta(torch.zeros(2, 4), torch.zeros(3, 4), 1.0)


def test_a_right_shape_is_none():
    assert combine.delta(torch.ones(2, 4), torch.zeros(2, 4), 2.0).equal(torch.full((2, 4), 2.0))


def test_plain_types_are_left_alone():
    scale = cast(float, torch.tensor(2.0))
    assert combine.delta(torch.ones(1, 4), torch.zeros(1, 4), scale).equal(torch.full((1, 4), 2.0))
