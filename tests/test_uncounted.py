"""Networks that ask their tensors for values cannot be counted on the meta device, and say so."""

import pytest

import pag
from tests.runs import RUNS


def test_the_error_says_which_network_and_why():
    with pytest.raises(RuntimeError, match="HunyuanVideo15Transformer3DModel costs cannot be counted without its"):
        pag.cost(RUNS["HunyuanVideo15Pipeline"].make())


def test_a_guide_is_shown_without_its_cost():
    guide = pag.guide(RUNS["HunyuanVideo15Pipeline"].make(), 3.0)
    assert repr(guide) == str(guide)
