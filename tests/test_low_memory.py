"""The perturbed rows after the others: the same numbers and operations as all rows at once, for less memory."""

import weakref
from typing import Any, cast

import accelerate
import pytest
import torch
from torch import Tensor, nn

import pag
from pag.counters import Operations
from pag.layers import select
from pag.meta import guided_on_meta, on_meta
from pag.rows import Rows, tensors
from tests import zoo
from tests.denoisers import NETWORKS
from tests.runs import RUNS
from tests.test_costs import MODELS
from tests.test_denoisers import (
    S,
    Step,
    difference,
    every_network,
    guided_step,
    rows_of,
    step_arguments,
    with_and_without_cfg,
)

SOME_RUNS = (
    "FluxPipeline",
    "FluxPipeline: true CFG",
    "StableDiffusion3Pipeline",
    "StableDiffusionXLPipeline",
    "WanPipeline",
    "PixArtAlphaPipeline",
    "CogVideoXPipeline",
    "ZImagePipeline: truncated CFG",
    "LTXPipeline",
    "QwenImagePipeline",
    "ZImagePipeline",
    "BriaFibo2Pipeline",
    "OmniGenPipeline: images",
    "WanPipeline: two transformers",
    "Cosmos3OmniPipeline",
)


@every_network
@with_and_without_cfg
def test_the_numbers_are_those_of_all_rows_at_once(name: str, g: float):
    network = NETWORKS[name]
    step = Step(network.model(), g)
    for path in network.paths:
        given, expected = step_arguments(network, g, rows_of(network, path)), guided_step(name, g, path)
        with pag.guide(step, S, layers=path, low_memory=True):
            assert difference(step(network, given), expected) <= network.rounding, path


@pytest.mark.parametrize("name", [name for name in SOME_RUNS if name in RUNS])
def test_whole_runs(name: str):
    run = RUNS[name]
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path):
        expected = run.sample(pipe)
    with pag.guide(pipe, S, layers=run.path, low_memory=True):
        assert zoo.difference(run.sample(pipe), expected) <= run.tolerance


@pytest.mark.parametrize("name", ["SD 1.5", "SD 3.5 medium", "PixArt"])
@with_and_without_cfg
def test_there_are_as_many_operations(name: str, g: float):
    with torch.device("meta"):
        model, family = on_meta(MODELS[name][0]())
    counts: list[int] = []
    for low_memory in (False, True):
        counter = Operations()
        sites = select(family.sites(model), family.recommended(model))
        guided_on_meta(model, family, sites, g > 1, pag.Guidance(low_memory=low_memory), counter)
        counts.append(counter.count)
    assert counts[0] == counts[1]


def rows_seen(module: nn.Module) -> list[int]:
    seen: list[int] = []
    module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[0]))
    return seen


def test_what_both_passes_share_is_computed_once():
    pipe = zoo.pipeline()
    unet: nn.Module = pipe.unet
    paths = ("down_blocks.0.resnets.0.conv1", "down_blocks.1.resnets.0.conv1", "mid_block.resnets.0.conv1")
    shared, later = [rows_seen(unet.get_submodule(path)) for path in paths], rows_seen(cast(Any, unet).conv_out)
    with pag.guide(pipe, S, low_memory=True):
        zoo.sample(pipe, steps=1, **zoo.prompts())
    assert shared == [[1], [2], [2]]
    assert later == [2, 1]


def test_nothing_is_kept(monkeypatch: pytest.MonkeyPatch):
    pipe, kept = zoo.pipeline(), list[weakref.ref[Tensor]]()
    of_prompt = Rows.of_prompt

    def watched(self: Rows, value: Any) -> Any:
        own = of_prompt(self, value)
        kept.extend(weakref.ref(tensor) for tensor in tensors(own))
        return own

    monkeypatch.setattr(Rows, "of_prompt", watched)
    with pag.guide(pipe, S, low_memory=True):
        zoo.sample(pipe, steps=1, **zoo.prompts())
        assert kept
        assert not any(tensor() is not None for tensor in kept)


@pytest.mark.parametrize("error_in", [1, 2])
def test_an_error_in_either_pass_leaves_nothing_behind(error_in: int):
    pipe, calls = zoo.pipeline(), list[int]()
    plain = zoo.sample(pipe, steps=1, **zoo.prompts())

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == error_in:
            raise MemoryError

    with pag.guide(pipe, S, low_memory=True):
        expected = zoo.sample(pipe, steps=1, **zoo.prompts())
        hook = pipe.unet.conv_out.register_forward_hook(fail)
        with pytest.raises(MemoryError):
            zoo.sample(pipe, steps=1, **zoo.prompts())
        hook.remove()
        assert zoo.sample(pipe, steps=1, **zoo.prompts()).equal(expected)
    assert zoo.sample(pipe, steps=1, **zoo.prompts()).equal(plain)


def test_keys_and_values_that_are_kept_are_refused():
    run = RUNS["Flux2KleinKVPipeline"]
    pipe = run.make()
    with (
        pag.guide(pipe, S, layers=run.path, low_memory=True),
        pytest.raises(RuntimeError, match=r"keeps keys and values.*Guide it without `low_memory`"),
    ):
        run.sample(pipe)


@pytest.mark.parametrize("g", [0.0, 4.0], ids=["alone", "cfg"])
def test_with_reused_deltas(g: float):
    """In some steps one group of rows is run, in some two, in some all."""
    pipe, reuse = zoo.pipeline(), pag.Reuse(pag=2, cfg=3)
    arguments: dict[str, Any] = {"steps": 8, "guidance_scale": g, **zoo.prompts()}
    with pag.guide(pipe, S, reuse=reuse):
        expected = zoo.sample(pipe, **arguments)
    with pag.guide(pipe, S, reuse=reuse, low_memory=True):
        assert zoo.difference(zoo.sample(pipe, **arguments), expected) <= 1e-4


def guided(pipe: Any, **arguments: Any) -> Tensor:
    with pag.guide(pipe, S, low_memory=True):
        first = zoo.sample(pipe, steps=2, **zoo.prompts(), **arguments)
        assert zoo.sample(pipe, steps=2, **zoo.prompts(), **arguments).equal(first)
    return first


class TestOffload:
    def test_model_offload(self):
        pipe = zoo.pipeline()
        expected = guided(pipe)
        pipe.enable_model_cpu_offload(device="cpu")
        assert guided(pipe).equal(expected)

    def test_sequential_offload(self):
        pipe = zoo.pipeline()
        expected = guided(pipe)
        for model in (pipe.vae, pipe.unet):
            weights: dict[str, Tensor] = {
                name: nn.Parameter(value, requires_grad=False) for name, value in model.state_dict().items()
            }
            accelerate.cpu_offload(model, torch.device("cpu"), state_dict=weights)
        assert guided(pipe).equal(expected)

    @pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
    @pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
    def test_group_offload(self, name: str, offload_type: str):
        run = RUNS[name]
        pipe = run.make()
        with pag.guide(pipe, S, layers=run.path):
            expected = run.sample(pipe)
        device = torch.device("cpu")
        blocks = {"num_blocks_per_group": 1} if offload_type == "block_level" else {}
        getattr(pipe, run.denoisers[0]).enable_group_offload(device, device, offload_type=offload_type, **blocks)
        with pag.guide(pipe, S, layers=run.path, low_memory=True):
            for _ in range(2):
                assert zoo.difference(run.sample(pipe), expected) <= run.tolerance

    @pytest.mark.parametrize("option", ["enable_slicing", "enable_tiling"])
    def test_vae(self, option: str):
        pipe = zoo.pipeline()
        expected = guided(pipe, output_type="pt")
        getattr(pipe.vae, option)()
        assert zoo.difference(guided(pipe, output_type="pt"), expected) <= 1e-4


def test_a_network_that_changes_in_place():
    pipe = zoo.pipeline()
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pag.guide(pipe, S, layers="u0"):
        expected = zoo.sample(pipe, **zoo.prompts())
    with pag.guide(pipe, S, layers="u0", low_memory=True):
        assert zoo.difference(zoo.sample(pipe, **zoo.prompts()), expected) <= 1e-4


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "blocks"])
def test_compiled(whole: bool):
    """Graphs of a network: one for each of the two passes."""
    torch.compiler.reset()
    pipe, graphs = zoo.pipeline(), list[int]()
    with pag.guide(pipe, S, low_memory=True):
        expected = zoo.sample(pipe, **zoo.prompts())

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    if whole:
        pipe.unet = torch.compile(pipe.unet, backend=backend)
    else:
        pipe.unet.mid_block.attentions[0].transformer_blocks[0].compile(backend=backend)
    with pag.guide(pipe, S, low_memory=True):
        assert zoo.difference(zoo.sample(pipe, **zoo.prompts()), expected) <= 1e-4
    assert len(graphs) == 2
    torch.compiler.reset()
