"""What is counted without values is what torch counts, though each operation is run once for tensors of a kind."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pag.counters import Operations, PeakMemory
from pag.meta import example_of, on_meta, run_on_meta
from tests.denoisers import NETWORKS


@pytest.mark.parametrize("name", ["sd", "flux", "sana", "kandinsky3"])
def test_operations_are_those_of_torch(name: str):
    model, family = on_meta(NETWORKS[name].model())
    theirs, ours = FlopCounterMode(display=False), Operations()
    for counter in (theirs, ours):
        run_on_meta(model, example_of(model, family, 2), counter)
    assert ours.count == theirs.get_total_flops() > 0


def test_operations_on_values_are_counted_each_time():
    layer, inputs = nn.Linear(4, 8), torch.randn(3, 4)
    with Operations() as operations:
        first, second = layer(inputs), layer(inputs + 1)
    assert operations.count == 2 * (2 * 3 * 4 * 8)
    assert not first.equal(second)


def results(x: Tensor) -> dict[str, Any]:
    """Outputs that are new, and others."""
    top, indices = x.topk(2)
    added = x.clone()
    return {
        "types": (x.int() + 1, x.int() + 1.0, x.half() * 2),
        "strides": (x.t() * 1, x.t().contiguous(), x.expand(2, 3, 4) + 1),
        "several": (top, indices, *x.split(2)),
        "in place": (added, added.add_(1), added.t_()),
        "none": (x[:0], x.new_zeros(())),
    }


def test_known_outputs_are_as_they_were():
    """Types, strides, and what is one storage."""
    x = torch.empty(3, 4, device="meta")
    for counter in (Operations(), PeakMemory()):
        plain = results(x)
        with counter:
            results(x)
            again = results(x)
        for what, tensors in plain.items():
            for one, other in zip(tensors, again[what], strict=True):
                assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype), what
        assert len({id(one.untyped_storage()) for one in again["in place"]}) == 1
        assert len({id(one.untyped_storage()) for one in again["types"]}) == 3


def test_what_is_known_is_not_run_again(monkeypatch: pytest.MonkeyPatch):
    runs: list[str] = []
    plain = Operations._run  # pyright: ignore[reportPrivateUsage]

    def run(self: Operations, func: Any, *given: Any) -> Any:
        runs.append(str(func))
        return plain(self, func, *given)

    monkeypatch.setattr(Operations, "_run", run)
    layer = nn.Linear(4, 4, device="meta")
    with Operations() as operations, torch.no_grad():
        layer(layer(layer(torch.empty(2, 4, device="meta"))))
    assert runs.count("aten.addmm.default") == 1
    assert operations.count == 3 * (2 * 2 * 4 * 4)
