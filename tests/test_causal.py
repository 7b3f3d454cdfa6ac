"""Causal attention without a mask: the identity of the image alone is its values, anything else is refused."""

import pytest
import torch
import torch.nn.functional as F

from pag.perturbations import Attend, Tokens, identity


def test_causal_attention():
    q, k, v = torch.randn(3, 1, 2, 6, 8)
    attend = Attend(F.scaled_dot_product_attention, is_causal=True)
    assert identity(q, k, v, attend, Tokens(slice(0, 6), slice(0, 6))).equal(v)
    with pytest.raises(ValueError, match="In causal attention"):
        identity(q, k, v, attend, Tokens(slice(2, 6), slice(2, 6)))
