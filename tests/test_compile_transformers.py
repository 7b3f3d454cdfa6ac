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
from tests.runs import RUNS, Run
from tests.test_compile import Graphs
from tests.test_denoisers import S, Step, step_arguments

pytestmark = pytest.mark.slow  # tracing takes most of a minute


BLOCKS: dict[str, tuple[dict[str, Any], int, int]] = {
    "StableDiffusion3Pipeline": ({"num_layers": 6}, 2, 3),
    "StableDiffusion3Pipeline: 3.5": ({"num_layers": 8, "dual_attention_layers": (0, 1, 2, 3)}, 3, 3),
    "FluxPipeline": ({"num_layers": 4, "num_single_layers": 4}, 3, 4),
    "PixArtSigmaPipeline": ({"num_layers": 6}, 2, 3),
    "WanPipeline": ({"num_layers": 6}, 1, 2),
}
"""Networks with blocks of each kind ahead of the recommended layer and behind it, and the graphs that the blocks take
when they are compiled one by one: plain, and guided on top of these."""


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


@pytest.mark.parametrize("name", BLOCKS)
def test_block_by_block(name: str):
    config, plain, guided = BLOCKS[name]
    run, graphs = RUNS[name], Graphs()
    pipe = run.make()
    pipe.transformer = deeper(pipe.transformer, config)
    expected = sampled(run, pipe)
    if pipe.transformer._repeated_blocks:
        pipe.transformer.compile_repeated_blocks(backend=graphs, fullgraph=True)
    else:
        for block in pipe.transformer.transformer_blocks:
            block.compile(backend=graphs, fullgraph=True)
    run.sample(pipe)
    settled = [graphs.count]
    for _ in range(2):
        assert all(zoo.difference(a, b) <= run.tolerance for a, b in zip(sampled(run, pipe), expected, strict=True))
        settled.append(graphs.count)
    assert settled == [plain, plain + guided, plain + guided]


def deeper(model: Any, config: dict[str, Any]) -> Any:
    given = {name: value for name, value in model.config.items() if not name.startswith("_")}
    return strong(lambda: type(model)(**(given | config)))


def sampled(run: Run, pipe: Any) -> list[Tensor]:
    """Plain, guided, and guided in one of two steps."""
    results = [run.sample(pipe)]
    for start in (0.0, 0.3):
        with pag.guide(pipe, S, start=start):
            results.append(run.sample(pipe))
    return results
