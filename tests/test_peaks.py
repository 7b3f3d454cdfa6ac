"""The memory of activations: counted on networks of full size, without weights."""

from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pag
from pag.intercept import PeakMemory
from pag.perturbations import PERTURBATIONS, Attend, Tokens
from tests.test_costs import MODELS


def test_what_is_alive_at_once_is_counted():
    ours = torch.zeros(1000)
    with PeakMemory() as peak:
        for _ in range(3):
            one = torch.ones(1000)
            two = one.view(10, 100) + ours.view(10, 100)  # views take nothing
            del one, two
        three = torch.cat([ours[:500], ours])
    assert peak.bytes == 2 * 4000
    assert three.numel() == 1500


def test_what_a_module_is_called_with_is_not_counted():
    module = nn.Linear(10, 5, bias=False)
    peak = PeakMemory()
    module.register_forward_pre_hook(peak.leave_out, with_kwargs=True)
    with torch.no_grad(), peak:
        module(torch.ones(3, 10))
    assert peak.bytes == 4 * 3 * 10


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_no_more_memory_than_a_batch_with_a_row_more(name: str, cfg: bool):
    with torch.device("meta"):
        model = MODELS[name][0]()
    memory = pag.memory(model, cfg=cfg)
    assert memory.plain < memory.guided <= memory.rows
    assert memory.plain < memory.low_memory < 0.9 * memory.guided
    assert memory.rows / memory.plain == pytest.approx(1.5 if cfg else 2, rel=0.01)


def test_the_identity_beside_text_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch):
    q, k, v = torch.randn(3, 2, 4, 300, 8, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(slice(40, 300), slice(40, 300))
    attend = Attend(F.scaled_dot_product_attention, torch.rand(2, 1, 300, 300) > 0.1)
    whole = PERTURBATIONS["identity"](q, k, v, attend, tokens)
    module = import_module("pag.perturbations.identity")
    monkeypatch.setattr(module, "_SCORES", 2 * 4 * 150 * 40)
    with PeakMemory() as peak:
        parts = PERTURBATIONS["identity"](q, k, v, attend, tokens)
    assert torch.allclose(parts, whole, atol=1e-6)
    monkeypatch.undo()
    with PeakMemory() as one:
        PERTURBATIONS["identity"](q, k, v, attend, tokens)
    assert peak.bytes < one.bytes
