"""Rows that the denoiser leaves out, since it reuses deltas, are left out in the ControlNets ahead of it too."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from diffusers import HeunDiscreteScheduler, MultiControlNetModel
from diffusers.callbacks import SDXLControlnetCFGCutoffCallback
from torch import Tensor, nn

import pag
from pag.caller import PipelineCaller
from pag.rows import tensors
from tests import zoo
from tests.groups import building
from tests.runs import RUNS

S = 3.0
REUSE = pag.Reuse(3, 3)
LEFT_OUT = [2, 1, 1, 2, 1, 1, 2, 1]
"""Rows of each step: those of the negative prompt are run in steps 0, 3 and 6."""

Call = dict[str, Any]


@contextmanager
def rows_of(nets: Sequence[nn.Module]) -> Generator[list[list[int]]]:
    """Rows of each call of ControlNets, at their ends."""
    seen: list[list[int]] = [[] for _ in nets]

    def keep(rows: list[int]) -> Any:
        return lambda _module, args, _output: rows.append(len(args[0]))

    ends: Any = [net.controlnet_mid_block for net in nets]
    hooks = [end.register_forward_hook(keep(rows)) for end, rows in zip(ends, seen, strict=True)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def sample(pipe: Any, **arguments: Any) -> Tensor:
    given: Call = {"steps": 8, "image": zoo.picture(), **zoo.prompts()} | arguments
    return zoo.sample(pipe, **given)


def left_out(pipe: Any, nets: Sequence[nn.Module], call: Call | None = None, **settings: Any) -> list[list[int]]:
    """Rows of each call of ControlNets, in a run that gives what all of their rows give."""
    given: Call = {"layers": "mid", "reuse": REUSE} | settings
    with mock.patch.object(PipelineCaller, "leaves_out", return_value=False), pag.guide(pipe, S, **given):
        expected = sample(pipe, **(call or {}))
    with pag.guide(pipe, S, **given), rows_of(nets) as seen:
        ours = sample(pipe, **(call or {}))
    assert zoo.difference(ours, expected) <= 1e-5
    return seen


@pytest.fixture
def net() -> Any:
    return zoo.controlnet()


@pytest.fixture
def pipe(net: Any) -> Any:
    return zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)


@pytest.mark.parametrize("settings", [{}, {"share_rows": False}, {"low_memory": True}, {"stop": 0.5}], ids=str)
def test_rows_that_are_not_read_are_not_run(pipe: Any, net: Any, settings: Call):
    assert left_out(pipe, [net], **settings) == [LEFT_OUT]


def test_of_several_images(pipe: Any, net: Any):
    call = {"seeds": (0, 1), **zoo.prompts(2)}
    assert left_out(pipe, [net], call) == [[2 * rows for rows in LEFT_OUT]]


def test_only_where_the_negative_prompt_is_reused(pipe: Any, net: Any):
    assert left_out(pipe, [net], reuse=pag.Reuse(pag=3)) == [[2] * 8]
    assert left_out(pipe, [net], {"guidance_scale": 0.0}) == [[1] * 8]
    assert left_out(pipe, [net], {"guess_mode": True}) == [[1] * 8]  # the pipeline leaves them out itself


def test_self_attention_guidance_reads_them(pipe: Any, net: Any):
    """Where it is computed anew: it begins with the negative prompt's prediction."""
    assert left_out(pipe, [net], perturbation="sag") == [[2] * 8]


def test_of_several_nets():
    nets = [zoo.controlnet(seed) for seed in range(2)]
    pictures = {"image": [zoo.picture(seed=seed) for seed in range(2)]}
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=MultiControlNetModel(nets))
    assert left_out(pipe, nets, pictures) == [LEFT_OUT, LEFT_OUT]


def test_of_a_net_that_stands_twice(net: Any):
    pictures = {"image": [zoo.picture(seed=seed) for seed in range(2)]}
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=MultiControlNetModel([net, net]))
    (seen,) = left_out(pipe, [net], pictures)
    assert seen[::2] == LEFT_OUT
    assert len(seen) == 16


def test_with_two_calls_a_step(net: Any):
    scheduler = HeunDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net, scheduler=scheduler)
    (seen,) = left_out(pipe, [net], {"steps": 4})
    unet: list[int] = []
    pipe.unet.conv_out.register_forward_hook(lambda _m, args, _o: unet.append(len(args[0])))
    with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(cfg=3)):
        sample(pipe, steps=4)
    assert seen == [rows - 1 for rows in unet]  # each call has its perturbed row
    assert 1 in seen


SHARING = ("StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetUnionPipeline")
VIDEOS = (
    "AnimateDiffControlNetPipeline",
    "AnimateDiffVideoToVideoControlNetPipeline",
    "AnimateDiffSparseControlNetPipeline",
)
TRANSFORMERS = ("StableDiffusion3ControlNetPipeline", "HunyuanDiTControlNetPipeline", "SanaControlNetPipeline")


@pytest.mark.parametrize("name", [*SHARING, *VIDEOS, *TRANSFORMERS])
def test_every_kind(name: str):
    run = RUNS[name]
    with building():
        pipe = run.make()
    given: Call = {"layers": run.path, "reuse": REUSE}
    with mock.patch.object(PipelineCaller, "leaves_out", return_value=False), pag.guide(pipe, S, **given):
        expected = run.sample(pipe, num_inference_steps=4)
    seen: list[list[tuple[int, ...]]] = []
    plain = pipe.controlnet.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        seen.append([one.shape for one in tensors((args, kwargs))])
        return plain(*args, **kwargs)

    pipe.controlnet.forward = forward
    with pag.guide(pipe, S, **given):
        ours = run.sample(pipe, num_inference_steps=4)
    assert zoo.difference(ours, expected) <= 1e-5
    first, second, *others = seen
    assert others == [first, second]  # the last step but one computes all rows
    parts = [rows for rows, all_rows in zip(second, first, strict=True) if rows[:1] != all_rows[:1]]
    assert len(parts) >= 2  # what is denoised, and the text


def test_rows_that_are_dropped(net: Any):
    """A callback that ends classifier-free guidance, and takes the negative prompt's rows out of all arguments."""
    net = zoo.controlnet(kind="sdxl")
    pipe = zoo.pipeline("StableDiffusionXLControlNetPipeline", "sdxl", controlnet=net)
    callback = SDXLControlnetCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=3)  # pyright: ignore
    call = zoo.pooled() | {"callback_on_step_end": callback}
    assert left_out(pipe, [net], call) == [[2, 1, 1, 2, 1, 1, 1, 1]]


def test_images_that_are_dropped(pipe: Any, net: Any):
    """A callback that goes on with the first image alone, in a step whose rows would have been left out."""

    def first(pipe: Any, step: int, _t: Any, tensors: Call) -> Call:
        if step != 3:
            return tensors
        return {"latents": tensors["latents"][:1], "prompt_embeds": tensors["prompt_embeds"][::2], "image": picture[:2]}

    picture = zoo.picture()
    call: Call = {"seeds": (0, 1), **zoo.prompts(2), "callback_on_step_end": first}
    call["callback_on_step_end_tensor_inputs"] = ["latents", "prompt_embeds"]
    picture = pipe.prepare_image(picture, 32, 32, 1, 1, "cpu", None, True)
    (seen,) = left_out(pipe, [net], call)
    assert seen[:4] == [4, 2, 2, 4]
    assert seen[4] == 2


def test_a_call_that_changes_keeps_to_what_was_left_out(pipe: Any, net: Any):
    """Only the denoiser can tell that it does, and the ControlNet has run by then. All is computed in the next step."""

    def change(pipe: Any, step: int, _t: Any, tensors: Call) -> Call:
        if step == 3:
            pipe._cross_attention_kwargs = {"scale": 1.0}
        return tensors

    unet: list[int] = []
    pipe.unet.conv_out.register_forward_hook(lambda _m, args, _o: unet.append(len(args[0])))
    with pag.guide(pipe, S, layers="mid", reuse=pag.Reuse(3, 3)), rows_of([net]) as (seen,):
        sample(pipe, callback_on_step_end=change)
    assert seen == [2, 1, 1, 2, 1, 2, 1, 1]
    assert unet[4:6] == [2, 3]


def test_runs_know_nothing_of_each_other(pipe: Any, net: Any):
    def stop(pipe: Any, step: int, _t: Any, tensors: Call) -> Call:
        if step == 1:
            raise InterruptedError
        return tensors

    plain = sample(pipe)
    other = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net, scheduler=pipe.scheduler)
    expected = sample(other)
    with pag.guide(pipe, S, layers="mid", reuse=REUSE):
        first = sample(pipe)
        assert zoo.difference(sample(other), expected) <= 1e-5  # not guided, but with the same ControlNet
        with pytest.raises(InterruptedError):
            sample(pipe, callback_on_step_end=stop)
        assert zoo.difference(sample(other), expected) <= 1e-5
        assert sample(pipe).equal(first)
    assert sample(pipe).equal(plain)
