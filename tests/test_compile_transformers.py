"""Guidance on compiled transformers: whole networks in one graph each, with guidance switched on and off."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import pag
from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.test_compile import Graphs
from tests.test_denoisers import S, Step, step_arguments

pytestmark = pytest.mark.slow  # tracing takes most of a minute


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", ["sd35", "flux", "pixart", "wan", "sana 1.5"])
def test_the_whole_network(name: str):
    """Two graphs, and none of them broken: plain and guided."""
    network, graphs = NETWORKS[name], Graphs()
    path = network.paths[-1]
    model = strong(network.make)
    eager, step = Step(model, 4.0), Step(torch.compile(model, backend=graphs, fullgraph=True), 4.0)  # pyright: ignore
    given = step_arguments(network, 4.0, 2)

    def run(step: Step) -> list[Tensor]:
        """A call that is guided and one that is not."""
        results: list[Tensor] = []
        with pag.guide(step, S, layers=path):
            results += step(network, given)
        with pag.guide(step, 0.0, layers=path):
            results += step(network, given)
        return results + step(network, given)

    expected = run(eager)
    settled = 0
    for _ in range(2):
        assert all(zoo.difference(a, b) <= 1e-5 for a, b in zip(run(step), expected, strict=True))
        settled = settled or graphs.count
    assert [settled, graphs.count] == [2, 2]
