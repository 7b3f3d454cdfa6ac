"""What stands for attention that diffusers computes without calling an operation."""

from typing import Any

import pytest
import torch
from torch import Tensor

import pag
from pag.processors import REPLACEMENTS
from tests import zoo
from tests.denoisers import NETWORKS
from tests.test_denoisers import Step

LINEAR: dict[str, str] = dict.fromkeys(("sana", "sana 1.5", "sana video"), "transformer_blocks.1.attn1")


def unperturbed(op: Any, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return op(q, k, v, **options)


@pytest.mark.parametrize("name", LINEAR)
def test_answering_with_the_operation_itself_changes_nothing(name: str):
    model = NETWORKS[name].model()
    module: Any = model.get_submodule(LINEAR[name])
    seen: list[Tensor] = []

    def compare(_: Any, args: Any, kwargs: Any, output: Tensor) -> None:
        replacement = REPLACEMENTS[type(module.processor).__name__]
        seen.append(output)
        assert zoo.difference(replacement(unperturbed, module, *args, **kwargs), output) <= 1e-5

    with module.register_forward_hook(compare, with_kwargs=True), torch.no_grad():
        model(**NETWORKS[name].arguments(2))
    assert seen


def test_linear_attention_has_no_identity_within_frames():
    """Its weights are no softmax, so the scores of a few keys do not tell them."""
    network = NETWORKS["sana video"]
    step = Step(network.model(), 0.0)
    given = network.arguments(1)
    with (
        pag.guide(step, 3.0, layers="1", perturbation="frame_identity"),
        pytest.raises(ValueError, match="Use perturbation='identity'"),
    ):
        step(network, given)
