"""The guider on compiled networks: the same result, and no graph beyond those of the first run.

The backend counts the graphs and runs them as they are.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from torch import Tensor

from pag import PerturbedAttentionGuider
from tests import zoo
from tests.modular import RUNS, ModularRun
from tests.test_compile import Graphs

SD3, WAN = RUNS["StableDiffusion3AutoBlocks"], RUNS["WanBlocks"]
G, S = 4.0, 3.0


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def sampled(run: ModularRun, pipe: Any) -> tuple[Tensor, Tensor]:
    """With the guider on in two of three steps, and with diffusers' own."""
    guider = PerturbedAttentionGuider(G, S, run.path, pag_stop=0.5)
    return run.sample(pipe, guider), run.sample(pipe, ClassifierFreeGuidance(G))


def check(run: ModularRun, pipe: Any, graphs: Graphs, count: int) -> None:
    eager = sampled(run, run.make())
    settled: list[int] = []
    for _ in range(2):
        for compiled, expected in zip(sampled(run, pipe), eager, strict=True):
            assert zoo.difference(compiled, expected) <= 1e-5
        settled.append(graphs.count)
    assert settled == [count, count]


@pytest.mark.slow  # tracing takes half a minute
def test_the_whole_network():
    """Two graphs with no break: guided and not."""
    graphs, pipe = Graphs(), SD3.make()
    pipe.transformer = torch.compile(pipe.transformer, backend=graphs, fullgraph=True)  # pyright: ignore
    check(SD3, pipe, graphs, 2)


@pytest.mark.slow
def test_in_place():
    graphs, pipe = Graphs(), SD3.make()
    pipe.transformer.compile(backend=graphs, fullgraph=True)
    check(SD3, pipe, graphs, 2)


@pytest.mark.slow
def test_block_by_block():
    """Three graphs: for blocks of one row, for the perturbed block, and for blocks of two rows behind it."""
    graphs, pipe = Graphs(), WAN.make()
    pipe.transformer.compile_repeated_blocks(backend=graphs, fullgraph=True)
    check(WAN, pipe, graphs, 3)
