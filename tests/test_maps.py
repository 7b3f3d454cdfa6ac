"""Perturbed rows get queries and keys only where something looks at them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pag
from tests import zoo

S = 3.0
LAYERS = ["m0", "u0"]
LATER = "up_blocks.1.attentions.0.transformer_blocks.0.attn1"


class WithMemory:
    """Self-attention whose tokens also attend to others."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        projected = (linear(hidden_states) for linear in (attn.to_q, attn.to_k, attn.to_v))
        q, k, v = (one.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in projected)
        k, v = (torch.cat([one, one.flip(2) / 2], dim=2) for one in (k, v))
        answers = F.scaled_dot_product_attention(q, k, v)
        return attn.to_out[0](answers.transpose(1, 2).flatten(2))


class WithPicture:
    """Self-attention, and on top of it attention to fewer tokens of something else with the same queries."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        projected = (linear(hidden_states) for linear in (attn.to_q, attn.to_k, attn.to_v))
        q, k, v = (one.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in projected)
        answers = F.scaled_dot_product_attention(q, k, v)
        answers = answers + F.scaled_dot_product_attention(q, v[:, :, :2], v[:, :, 2:4])
        return attn.to_out[0](answers.transpose(1, 2).flatten(2))


def guided(pipe: Any, **settings: Any) -> tuple[Tensor, list[int]]:
    """The result, and how many rows of queries each call of the later layer makes."""
    rows: list[int] = []
    maker = pipe.unet.get_submodule(LATER).to_q
    plain = maker.forward

    def counted(hidden_states: Tensor) -> Tensor:
        rows.append(hidden_states.shape[0])
        return plain(hidden_states)

    maker.forward = counted
    try:
        with pag.guide(pipe, S, layers=LAYERS, **settings):
            return zoo.sample(pipe, **zoo.prompts()), rows
    finally:
        del maker.forward


def test_where_the_image_is_alone_there_are_none():
    pipe = zoo.pipeline()
    result, rows = guided(pipe)
    expected, all_rows = guided(pipe, share_rows=False)
    assert rows == [2] * 3
    assert all_rows == [3] * 3
    assert zoo.difference(result, expected) <= 1e-5


@pytest.mark.parametrize("processor", [WithMemory(), WithPicture()])
def test_where_it_is_not_they_are_made(processor: Any):
    """Which shows when the operation is called: the layer then runs once more, in the first call only."""
    pipe = zoo.pipeline()
    pipe.unet.get_submodule(LATER).set_processor(processor)
    result, rows = guided(pipe)
    expected, all_rows = guided(pipe, share_rows=False)
    assert rows == [2, 3, 3, 3]
    assert all_rows == [3] * 3
    assert zoo.difference(result, expected) <= 1e-5


def test_another_perturbation_may_look_at_them():
    pipe = zoo.pipeline()
    assert guided(pipe, perturbation="frame_identity")[1] == [3] * 3
