"""Rows of a ControlNet that are equal until the text enters are computed once, exactly, in guided steps only."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import MultiControlNetModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import pag
from tests import zoo
from tests.runs import RUNS

S = 3.0
ALL = (
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionControlNetInpaintPipeline",
    "StableDiffusionXLControlNetUnionPipeline",
    "AnimateDiffControlNetPipeline",
)


@contextmanager
def outputs(net: nn.Module) -> Generator[list[Tensor]]:
    """What a ControlNet returns in each call, as one vector."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        down, mid = output
        seen.append(torch.cat([one.flatten() for one in (*down, mid)]))

    hook = net.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def operations(net: nn.Module, path: str = "") -> Generator[list[int]]:
    """Operations of each call of a module of a ControlNet."""
    plain, seen = net.get_submodule(path).forward, list[int]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            output = plain(*args, **kwargs)
        seen.append(counter.get_total_flops())
        return output

    net.get_submodule(path).forward = counted
    try:
        yield seen
    finally:
        del net.get_submodule(path).forward


@pytest.mark.parametrize("name", ALL)
def test_it_returns_the_same_for_fewer_operations(name: str):
    run = RUNS[name]
    pipe = run.make()
    seen: dict[bool, list[int]] = {}
    results: dict[bool, list[Tensor]] = {}
    for shared in (False, True):
        guide = pag.guide(pipe, S, layers=run.path, share_rows=shared)
        with operations(pipe.controlnet) as count, outputs(pipe.controlnet) as result, guide:
            run.sample(pipe)
        seen[shared], results[shared] = count, result
    for one, other in zip(results[True], results[False], strict=True):
        assert zoo.difference(one, other) <= 1e-5
    assert all(one < other for one, other in zip(seen[True], seen[False], strict=True))


def test_up_to_the_text_one_row_is_run():
    """The second half of the operations ahead of the first cross-attention is left out, and nothing else."""
    net = zoo.controlnet()
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)
    arguments: dict[str, Any] = {**zoo.prompts(), "image": zoo.picture()}
    ahead = ("conv_in", "time_embedding", "controlnet_cond_embedding", "down_blocks.0.resnets.0")
    block = "down_blocks.0.attentions.0."
    ahead += tuple(block + part for part in ("norm", "proj_in", "transformer_blocks.0.attn1"))
    shared: dict[str, list[int]] = {}
    for path in ("", *ahead):
        with operations(net, path) as plain:
            zoo.sample(pipe, **arguments)
        with pag.guide(pipe, S), operations(net, path) as seen:
            zoo.sample(pipe, **arguments)
        shared[path] = [one - other for one, other in zip(plain, seen, strict=True)]
        if path:
            assert seen == [0] * len(plain) or [2 * one for one in seen] == plain, path
    assert shared[""] == [sum(one) for one in zip(*(shared[path] for path in ahead), strict=True)]
    assert shared[""][0] > 0


def counts(pipe: Any, net: nn.Module, scale: float = S, steps: int = 3, **arguments: Any) -> list[int]:
    """Operations of each call of a ControlNet in a guided run."""
    settings = {name: arguments.pop(name) for name in ("start", "stop") if name in arguments}
    with pag.guide(pipe, scale, **settings), operations(net) as seen:
        given: dict[str, Any] = {**zoo.prompts(), "image": zoo.picture(), **arguments}
        zoo.sample(pipe, steps=steps, **given)
    return seen


def test_several_nets_share_each_and_one_that_stands_twice_too():
    nets = [zoo.controlnet(seed) for seed in range(2)]
    pictures: Any = [zoo.picture(seed=seed) for seed in range(2)]
    for chosen in (nets, [nets[0], nets[0]]):
        pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=MultiControlNetModel(chosen))
        for net in chosen:
            off, on = counts(pipe, net, 0.0, image=pictures), counts(pipe, net, image=pictures)
            assert len(on) == len(off)
            assert all(one < other for one, other in zip(on, off, strict=True))


def test_what_is_not_guided_or_has_no_equal_rows_is_run_as_it_is():
    net = zoo.controlnet()
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)
    plain = counts(pipe, net, 0.0)
    assert counts(pipe, net)[0] < plain[0]
    for alone in ({"guess_mode": True}, {"guidance_scale": 0.0}):
        # Rows that are equal by accident may part later.
        given: dict[str, Any] = {**alone, **zoo.prompts(2), "seeds": (0, 0)}
        assert counts(pipe, net, **given) == counts(pipe, net, 0.0, **given)
    late = counts(pipe, net, start=0.5)
    assert late[0] == plain[0]
    assert late[-1] < plain[-1]


def test_rows_that_differ_are_not_shared(monkeypatch: pytest.MonkeyPatch):
    """A picture for the negative prompt's rows that is another one than the prompt's."""
    net = zoo.controlnet()
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)
    plain = counts(pipe, net, 0.0)
    monkeypatch.setattr(pipe, "prepare_image", lambda **_: zoo.picture(2))
    assert counts(pipe, net) == plain


@pytest.mark.parametrize("times", [1, 2])
def test_it_comes_off(times: int):
    """After a run, and after one that a layer ended; two guides of one ControlNet do not meet in it."""
    net = zoo.controlnet()
    pipes = [zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net) for _ in range(times)]
    arguments: dict[str, Any] = {**zoo.prompts(), "image": zoo.picture()}
    plain, before = zoo.sample(pipes[0], **arguments), zoo.state_of(net)

    def fail(*_: Any) -> None:
        raise MemoryError

    guides = [pag.guide(pipe, S).attach() for pipe in pipes]
    guided = [zoo.sample(pipe, **arguments) for pipe in pipes]
    hook = net.mid_block.register_forward_hook(fail)
    for pipe, guide in zip(pipes, guides, strict=True):
        with pytest.raises(MemoryError):
            zoo.sample(pipe, **arguments)
        guide.detach()
    hook.remove()
    after = zoo.state_of(net)
    for module, attributes in before.items():
        assert after[module].keys() == attributes.keys()
        assert all(after[module][name] is value for name, value in attributes.items()), module
    assert zoo.sample(pipes[0], **arguments).equal(plain)
    with pag.guide(pipes[0], S):
        assert zoo.sample(pipes[0], **arguments).equal(guided[0])


def test_offloaded():
    accelerate = pytest.importorskip("accelerate")
    net = zoo.controlnet()
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)
    arguments: dict[str, Any] = {**zoo.prompts(), "image": zoo.picture()}
    with pag.guide(pipe, S):
        expected = zoo.sample(pipe, **arguments)
    with pag.guide(pipe, S):
        accelerate.cpu_offload_with_hook(net, torch.device("cpu"))
        assert zoo.sample(pipe, **arguments).equal(expected)
    accelerate.hooks.remove_hook_from_module(net, recurse=True)
    accelerate.cpu_offload_with_hook(net, torch.device("cpu"))
    with pag.guide(pipe, S), operations(net) as seen:
        assert zoo.sample(pipe, **arguments).equal(expected)
    assert seen == counts(pipe, net)
