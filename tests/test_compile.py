"""Guidance on compiled networks: the same result, few graphs, and never a silent no-op.

The backend counts the graphs and runs them as they are: what is tested is what torch traces, not what it makes of it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, fx

import pag
from tests import zoo

S = 3.0


class Graphs:
    """A backend that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.count += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> UNet2DConditionModel:
    """The smallest that has blocks ahead of the perturbed one: tracing takes most of the time here."""
    return zoo.unet(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


class Run:
    """Steps of a pipeline whose guidance is on between progress 0.3 and 0.7."""

    guidance_scale = 4.0
    do_classifier_free_guidance = True

    def __init__(self, unet: torch.nn.Module) -> None:
        self.unet, self.scheduler = unet, zoo.ddim()
        self.inputs = zoo.inputs(network(), 2)
        self.inputs["sample"][0] = self.inputs["sample"][1]

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(10)
        results: list[Tensor] = []
        for timestep in (900, 500, 400, 100):
            u, c = self.unet(**(self.inputs | {"timestep": torch.tensor(timestep)}))[0].chunk(2)
            results.append(u + self.guidance_scale * (c - u))
        return torch.cat(results)

    def guided(self) -> pag.Guide:
        return pag.guide(self, S, start=0.3, stop=0.7)


@pytest.fixture(scope="module")
def eager() -> tuple[Tensor, Tensor]:
    """The latents without and with guidance, which differ where guidance is on."""
    run = Run(network())
    plain = run()
    with run.guided():
        guided = run()
    differs = [not one.equal(other) for one, other in zip(plain, guided, strict=True)]
    assert differs == [False, True, True, False]
    return plain, guided


def check(run: Run, eager: tuple[Tensor, Tensor], graphs: Graphs, count: int) -> None:
    """Guided, unguided, and both again: results as in eager mode, and no graph beyond those of the first round."""
    plain, guided = eager
    with run.guided():
        assert zoo.difference(run(), guided) <= 1e-5
        assert zoo.difference(run(), guided) <= 1e-5
    assert zoo.difference(run(), plain) <= 1e-5
    settled = graphs.count
    with run.guided():
        assert zoo.difference(run(), guided) <= 1e-5
    assert zoo.difference(run(), plain) <= 1e-5
    assert [settled, graphs.count] == [count, count]


def test_the_whole_network(eager: tuple[Tensor, Tensor]):
    """Two graphs with no break: plain and guided."""
    graphs = Graphs()
    check(Run(torch.compile(network(), backend=graphs, fullgraph=True)), eager, graphs, count=2)  # pyright: ignore


@pytest.mark.slow  # tracing takes most of a minute
def test_in_place(eager: tuple[Tensor, Tensor]):
    graphs, unet = Graphs(), network()
    unet.compile(backend=graphs, fullgraph=True)
    check(Run(unet), eager, graphs, count=2)


@pytest.mark.slow
def test_block_by_block(eager: tuple[Tensor, Tensor]):
    """Four graphs for two shapes and two numbers of rows, and one for the perturbed block."""
    graphs, unet = Graphs(), network()
    unet.compile_repeated_blocks(backend=graphs, fullgraph=True)
    check(Run(unet), eager, graphs, count=5)


SD15: dict[str, Any] = {
    "block_out_channels": (8, 16, 32, 32),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SDXL: dict[str, Any] = {
    "block_out_channels": (8, 16, 32),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
}
BLOCKS: dict[str, tuple[str, str, dict[str, Any], list[int]]] = {
    "SD 1.5": ("StableDiffusionPipeline", "sd15", SD15, [3, 8, 8, 8]),
    "SDXL": ("StableDiffusionXLPipeline", "sdxl", SDXL, [2, 6, 6, 6]),
}
"""The published architectures, but for their widths, and their graphs: plain, guided, and both once more."""


@pytest.mark.parametrize("name", [pytest.param("SD 1.5", marks=pytest.mark.slow), "SDXL"])
def test_block_by_block_as_published(name: str):
    """SDXL's ten blocks in the middle are all perturbed: they share a graph, but for the first."""
    cls, kind, config, counts = BLOCKS[name]
    graphs, pipe = Graphs(), zoo.pipeline(cls, unet=zoo.unet(kind, **config))
    pipe.unet.compile_repeated_blocks(backend=graphs, fullgraph=True)
    given: dict[str, Any] = zoo.prompts() | (zoo.pooled() if name == "SDXL" else {}) | {"height": 64, "width": 64}
    seen: list[int] = []
    for _ in range(2):
        zoo.sample(pipe, **given)
        seen.append(graphs.count)
        with pag.guide(pipe, S, start=0.3):
            zoo.sample(pipe, **given)
        seen.append(graphs.count)
    assert seen == counts


@pytest.mark.slow
def test_reused_deltas():
    """Two graphs more: for the prompt's rows alone, and with the perturbed ones."""
    graphs, pipe = Graphs(), zoo.pipeline(unet=network())
    reuse = pag.Reuse(pag=2, cfg=4)
    given: dict[str, Any] = zoo.prompts() | {"steps": 8}
    with pag.guide(pipe, S, reuse=reuse):
        expected = zoo.sample(pipe, **given)
    pipe.unet = torch.compile(pipe.unet, backend=graphs, fullgraph=True)  # pyright: ignore
    settled: list[int] = []
    for _ in range(2):
        with pag.guide(pipe, S, reuse=reuse):
            assert zoo.difference(zoo.sample(pipe, **given), expected) <= 1e-4
        with pag.guide(pipe, S):
            zoo.sample(pipe, **given)
        zoo.sample(pipe, **given)
        settled.append(graphs.count)
    assert settled == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_compiling_under_guidance_is_not_a_silent_no_op(eager: tuple[Tensor, Tensor], in_place: bool):
    graphs, run = Graphs(), Run(network())
    with run.guided():
        if in_place:
            run.unet.compile(backend=graphs)
        else:
            run.unet = torch.compile(run.unet, backend=graphs)  # pyright: ignore
        assert zoo.difference(run(), eager[1]) <= 1e-5
        settled = graphs.count
        assert settled
        assert zoo.difference(run(), eager[1]) <= 1e-5
        assert graphs.count == settled
    assert zoo.difference(run(), eager[0]) <= 1e-5
