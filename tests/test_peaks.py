"""The memory of activations: counted on networks of full size, without weights."""

from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel
from torch import nn

import pag
from pag.counters import PeakMemory
from pag.denoiser import GuidedDenoiser
from pag.families import controlnet_example, family_of
from pag.guidance import Guidance
from pag.intercept import AttentionOp, running_on_meta
from pag.layers import select
from pag.lent import Growing, Lent
from pag.meta import EqualRows, example_of, fused_attention
from pag.perturbations import PERTURBATIONS, Attend, Tokens
from pag.rows import Rows
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


def peak_of_step(model: nn.Module, net: nn.Module | None, rows: int) -> int:
    """Bytes of all that is alive in a step: of the network's call, and of what a pipeline makes for it and holds."""
    peak = PeakMemory()
    with AttentionOp(fused_attention), torch.no_grad(), peak, running_on_meta():
        given = example_of(model, family_of(model), rows)
        if net is not None:
            down, mid = net(**controlnet_example(net, given, rows), return_dict=False)
            given |= {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        model(**given)
    return peak.bytes


@pytest.mark.parametrize("name", ["SD 1.5", "SD 1.5 with a ControlNet", "PixArt", "Sana"])
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_a_whole_step_takes_no_more_memory_than_one_with_a_row_more(name: str, cfg: bool):
    """Neither the text nor a ControlNet's residuals are copied for perturbed rows all at once.

    The smaller the picture the more they weigh: this is 256², of Sana 1024².
    """
    key, _, controlled = name.partition(" with ")
    with torch.device("meta"):
        made: Any = MODELS[key][0]()
        model: nn.Module = type(made).from_config(made.config, sample_size=32).eval()
        net = ControlNetModel(cross_attention_dim=768).eval() if controlled else None
    family, rows = family_of(model), 2 if cfg else 1
    theirs = peak_of_step(model, net, rows + 1)
    chosen, caller = select(family.sites(model), family.recommended(model)), EqualRows(cfg)
    denoiser = GuidedDenoiser(model, family, chosen, Guidance(), caller)
    denoiser.attach()
    try:
        ours = peak_of_step(model, net, rows)
    finally:
        denoiser.detach()
    assert 0.85 * theirs < ours <= theirs


def test_what_is_lent_is_read_where_it_is_known_to_be_and_nowhere_else():
    lent, text = Lent(Rows(1, ("uncond", "cond"))), torch.randn(2, 5, 3)
    stand_in = lent.stand_in(text)
    assert stand_in.shape == (3, 5, 3)
    assert stand_in.isnan().all()
    assert stand_in.untyped_storage().nbytes() == text.element_size()
    for came in (stand_in, stand_in.clone()):  # an offload hook's copy
        seen = lent.given(came)
        assert seen[:2].equal(text)
        assert seen[2].equal(text[1])
    assert lent.given(stand_in[:2]).equal(text)
    assert lent.given(stand_in.double()).dtype == torch.float64
    for other in (torch.zeros(3, 5), None):
        assert lent.given(other) is other
    assert lent.given((stand_in, None))[0].equal(seen)


def test_a_growing_list_makes_each_tensor_as_it_is_taken():
    made: list[int] = []

    def grow(item: int) -> int:
        made.append(item)
        return -item

    growing = Growing([1, 2, 3], grow)
    assert (len(growing), made) == (3, [])
    assert (growing[1], made) == (-2, [2])
    assert list(growing[1:]) == [-2, -3]
    assert list(growing) == [-1, -2, -3]


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
