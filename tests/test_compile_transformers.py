"""Guidance on compiled transformers: whole networks in one graph each, with guidance switched on and off."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pag
from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.test_compile import Graphs
from tests.test_denoisers import S, Step, step_arguments

pytestmark = pytest.mark.slow  # tracing takes most of a minute


BLOCKS = {"sd35": 3, "flux": 4, "pixart": 4, "wan": 2}
"""Graphs of blocks that are compiled one by one."""


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def check(name: str, model: nn.Module, compiled: nn.Module, graphs: Graphs, count: int) -> None:
    """A guided call, one with scale 0 and a plain one: results as in eager mode, and all graphs in the first round."""
    network = NETWORKS[name]
    eager, step = Step(model, 4.0), Step(compiled, 4.0)
    given = step_arguments(network, 4.0, 2)

    def run(step: Step) -> list[Tensor]:
        results: list[Tensor] = []
        with pag.guide(step, S, layers=network.paths[-1]):
            results += step(network, given)
        with pag.guide(step, 0.0, layers=network.paths[-1]):
            results += step(network, given)
        return results + step(network, given)

    expected = run(eager)
    settled: list[int] = []
    for _ in range(2):
        assert all(zoo.difference(a, b) <= 1e-5 for a, b in zip(run(step), expected, strict=True))
        settled.append(graphs.count)
    assert settled == [count, count]


@pytest.mark.parametrize("name", ["sd35", "flux", "pixart", "wan", "sana 1.5"])
def test_the_whole_network(name: str):
    """Two graphs, and none of them broken: plain and guided."""
    model, graphs = strong(NETWORKS[name].make), Graphs()
    check(name, model, torch.compile(model, backend=graphs, fullgraph=True), graphs, 2)  # pyright: ignore


@pytest.mark.parametrize(("name", "count"), BLOCKS.items())
def test_block_by_block(name: str, count: int):
    model, graphs = strong(NETWORKS[name].make), Graphs()
    compiled: Any = strong(NETWORKS[name].make)
    if compiled._repeated_blocks:
        compiled.compile_repeated_blocks(backend=graphs, fullgraph=True)
    else:
        for block in compiled.transformer_blocks:
            block.compile(backend=graphs, fullgraph=True)
    check(name, model, compiled, graphs, count)
