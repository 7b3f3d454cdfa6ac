"""The laws of guidance, for every perturbation on every kind of U-Net, from one table of settings.

The caller is the least that a pipeline is. What a guided call must give is computed from separate forwards of the
plain network and diffusers' own perturbed attention processor.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, cast

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import pag
from pag.perturbations import PERTURBATIONS
from tests import reference, zoo

G, S = 4.0, 3.0

ORACLES: dict[str, Callable[[nn.Module, Sequence[str]], AbstractContextManager[None]]] = {
    "identity": reference.perturbed,
    "frame_identity": reference.perturbed,  # an image is one frame
}
"""For each perturbation, the plain network perturbed by other means than ours."""

every_network = pytest.mark.parametrize("kind", zoo.CONTRACT)
every_perturbation = pytest.mark.parametrize("perturbation", PERTURBATIONS)
with_and_without_cfg = pytest.mark.parametrize("g", [0.0, G], ids=["alone", "cfg"])


@cache
def network(kind: str) -> UNet2DConditionModel:
    return zoo.unet(kind)


def paths(kind: str) -> list[str]:
    """The first, the middle and the last site."""
    found = [site.path for site in pag.sites(network(kind))]
    return list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]]))


class Step:
    """One step of a pipeline: rows in, ``u + g·(c − u)`` out."""

    def __init__(self, unet: nn.Module, g: float) -> None:
        self.unet, self.guidance_scale, self.scheduler = unet, g, zoo.ddim()
        self.scheduler.set_timesteps(10)

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self.guidance_scale > 1

    @torch.no_grad()
    def __call__(self, arguments: dict[str, Any]) -> Tensor:
        output = self.unet(**arguments)[0]
        if not self.do_classifier_free_guidance:
            return output
        u, c = output.chunk(2)
        return u + self.guidance_scale * (c - u)


def arguments(kind: str, g: float, count: int = 1) -> dict[str, Any]:
    """What a pipeline passes for images that all differ: with CFG twice, but for the text."""
    cond = zoo.inputs(network(kind), count)
    if g <= 1:
        return cond
    uncond = zoo.inputs(network(kind), count, seed=1)
    equal = ("sample", "timestep_cond", "class_labels")
    return joined([cond if name in equal else uncond for name in cond], cond)


def joined(first: Sequence[dict[str, Any]], second: dict[str, Any]) -> dict[str, Any]:
    """The rows of the first, argument by argument, and then those of the second."""

    def join(one: Any, other: Any) -> Any:
        if isinstance(one, dict):
            return {name: join(one[name], other[name]) for name in one}  # pyright: ignore
        return one if one.ndim == 0 else torch.cat([one, other])

    return {name: join(source[name], second[name]) for name, source in zip(second, first, strict=True)}


def rows_seen(module: nn.Module) -> list[int]:
    seen: list[int] = []
    module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[0]))
    return seen


def by_hand(kind: str, g: float, path: str, perturbation: str, given: dict[str, Any]) -> Tensor:
    """The formula of the paper from separate forwards."""
    with torch.no_grad():
        plain = network(kind)(**given)[0]
        with ORACLES[perturbation](network(kind), [path]):
            worse = network(kind)(**given)[0]
    if g <= 1:
        return plain + S * (plain - worse)
    (u, c), p = plain.chunk(2), worse.chunk(2)[1]
    return u + g * (c - u) + S * (c - p)


@every_network
@every_perturbation
@with_and_without_cfg
def test_a_guided_call_gives_the_formula(kind: str, perturbation: str, g: float):
    step, given = Step(network(kind), g), arguments(kind, g, count=2)
    for path in paths(kind):
        with pag.guide(step, S, layers=path, perturbation=perturbation):
            result = step(given)
        assert zoo.difference(result, by_hand(kind, g, path, perturbation, given)) <= 1e-5
        assert zoo.difference(result, step(given)) > 1e-4


@every_network
@every_perturbation
@with_and_without_cfg
def test_sharing_rows_is_exact(kind: str, perturbation: str, g: float):
    step, given, results = Step(network(kind), g), arguments(kind, g), list[Tensor]()
    for path in paths(kind):
        for share_rows in (True, False):
            with pag.guide(step, S, layers=path, perturbation=perturbation, share_rows=share_rows):
                results.append(step(given))
        assert zoo.difference(results[-2], results[-1]) <= 1e-5


@every_network
def test_groups_with_different_inputs_are_not_shared(kind: str):
    cond, uncond = zoo.inputs(network(kind), 2), zoo.inputs(network(kind), 2, seed=1)
    given = joined([uncond] * len(cond), cond)
    step = Step(network(kind), G)
    expected = by_hand(kind, G, paths(kind)[0], "identity", given)
    with pag.guide(step, S, layers=paths(kind)[0]):
        assert zoo.difference(step(given), expected) <= 1e-5


def test_a_loop_of_one_s_own_may_pass_other_groups_in_each_call():
    """Nothing tells there where a run begins: equal groups now do not mean equal ones later."""
    step, path = Step(network("sd15"), G), paths("sd15")[-1]
    equal, different = arguments("sd15", G), arguments("sd15", G)
    different["sample"] = zoo.inputs(network("sd15"), 2, seed=2)["sample"]
    with pag.guide(step, S, layers=path):
        results = [step(equal), step(different)]
    for result, given in zip(results, (equal, different), strict=True):
        assert zoo.difference(result, by_hand("sd15", G, path, "identity", given)) <= 1e-5


@pytest.mark.parametrize("argument", ["sample", "timestep_cond"])
def test_one_different_input_ends_the_sharing(argument: str):
    step, given = Step(network("lcm"), G), arguments("lcm", G, count=2)
    given[argument] = zoo.inputs(network("lcm"), 4, seed=2)[argument]
    path = paths("lcm")[1]
    expected = by_hand("lcm", G, path, "identity", given)
    with pag.guide(step, S, layers=path):
        assert zoo.difference(step(given), expected) <= 1e-5


def test_each_run_looks_anew_whether_its_inputs_are_equal():
    step, path = Step(network("sd15"), G), paths("sd15")[1]
    equal, unequal = arguments("sd15", G), zoo.inputs(network("sd15"), 2)
    expected = by_hand("sd15", G, path, "identity", unequal)
    with pag.guide(step, S, layers=path):
        step(equal)
        step.scheduler.set_timesteps(10)
        assert zoo.difference(step(unequal), expected) <= 1e-5


def test_a_timestep_for_each_row_grows_along():
    step, given, path = Step(network("sd15"), G), arguments("sd15", G, count=2), paths("sd15")[1]
    given["timestep"] = torch.tensor([900, 100, 900, 100])
    expected = by_hand("sd15", G, path, "identity", given)
    with pag.guide(step, S, layers=path):
        assert zoo.difference(step(given), expected) <= 1e-5


def test_arguments_by_position_are_as_good_as_by_name():
    unet, given = network("sd15"), zoo.inputs(network("sd15"), 1)
    with pag.guide(Step(unet, 0.0), S), torch.no_grad():
        by_name = unet(**given).sample
        by_position = unet(*given.values(), return_dict=False)
    assert isinstance(by_position, tuple)
    assert by_position[0].equal(by_name)


OFF: tuple[dict[str, Any], ...] = ({"scale": 0.0}, {"start": 0.51}, {"stop": 0.5}, {"adaptive_scale": 0.006})
"""Timestep 500 of 1000 is progress 0.5, where the adaptive scale of 3 − 0.006·500 has come down to 0."""


@every_network
@with_and_without_cfg
def test_off_is_exact_and_costs_no_row(kind: str, g: float):
    step, given = Step(network(kind), g), arguments(kind, g)
    expected = step(given)
    rows: list[int] = []
    hook = network(kind).conv_out.register_forward_hook(lambda _module, _inputs, out: rows.append(out.shape[0]))
    for off in OFF:
        settings: dict[str, Any] = {"scale": S, **off}
        with pag.guide(step, layers=paths(kind)[0], **settings):
            assert step(given).equal(expected), off
    assert step(given).equal(expected)
    hook.remove()
    assert rows == [given["sample"].shape[0]] * 5


def test_with_known_arithmetic_every_row_is_the_finished_result():
    """Which `u + g·(c − u)` returns as it is, in any precision."""
    step, given = Step(network("sd15"), G), arguments("sd15", G)
    with pag.guide(step, S), torch.no_grad():
        first, second = network("sd15")(**given)[0]
        assert first.equal(second)
        assert step(given).equal(first[None])


@pytest.mark.parametrize(("progress", "scale"), [(0.5, 3.0 - 0.002 * 500), (0.9, 3.0 - 0.002 * 900)])
def test_the_adaptive_scale_is_the_one_that_is_used(progress: float, scale: float):
    step, given, path = Step(network("sd15"), 0.0), arguments("sd15", 0.0), paths("sd15")[1]
    given["timestep"] = torch.tensor(round(1000 - 1000 * progress))
    with pag.guide(step, 3.0, layers=path, adaptive_scale=0.002):
        adaptive = step(given)
    with pag.guide(step, scale, layers=path):
        assert zoo.difference(adaptive, step(given)) <= 1e-6


def test_only_rows_that_differ_are_computed():
    """Ahead of the text one row, from there two, from the perturbed layer on three."""
    unet = zoo.unet()
    step, given = Step(unet, G), arguments("sd15", G)
    seen = {
        path: rows_seen(unet.get_submodule(path))
        for path in (
            "time_embedding.linear_1",
            "down_blocks.0.resnets.0.conv1",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q",
            "down_blocks.1.resnets.0.conv1",
            "mid_block.resnets.0.conv1",
            "mid_block.attentions.0.transformer_blocks.0.attn2.to_q",
            "up_blocks.0.resnets.0.conv1",
            "conv_out",
        )
    }
    with pag.guide(step, S, layers="m0"):
        step(given)
    assert [rows for (rows,) in seen.values()] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


@every_network
def test_an_image_depends_on_its_own_rows_alone(kind: str):
    step, given = Step(network(kind), G), arguments(kind, G, count=3)

    def row(value: Any, index: int) -> Any:
        if isinstance(value, dict):
            return {name: row(item, index) for name, item in value.items()}  # pyright: ignore
        return value if value.ndim == 0 else value[[index, 3 + index]]

    with pag.guide(step, S, layers=paths(kind)[0]):
        together = step(given)
        for index in range(3):
            alone = step({name: row(value, index) for name, value in given.items()})
            assert zoo.difference(together[[index]], alone) <= 1e-5


def test_an_image_of_a_run_depends_on_its_seed_alone():
    pipe, prompts = zoo.pipeline(), zoo.prompts(3)
    with pag.guide(pipe, S):
        together = zoo.sample(pipe, seeds=(1, 2, 3), **prompts)
        for index in range(3):
            one = {name: value[[index]] for name, value in prompts.items()}
            assert zoo.difference(together[[index]], zoo.sample(pipe, seeds=(index + 1,), **one)) <= 1e-4


class NoAttentionOperation:
    """A processor like those of linear attention, or of kernels that bypass torch's own operation."""

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states


@every_perturbation
def test_a_layer_that_cannot_be_reached_is_an_error(perturbation: str):
    unet = zoo.unet()
    step, path = Step(unet, G), "mid_block.attentions.0.transformer_blocks.0.attn1"
    unet.get_submodule(path).set_processor(NoAttentionOperation())  # pyright: ignore
    plain = step(arguments("sd15", G))
    guide = pag.guide(step, S, layers=["d0", path], perturbation=perturbation)
    with guide, pytest.raises(RuntimeError, match=r"did not reach m0 \(NoAttentionOperation\).*AttnProcessor2_0"):
        step(arguments("sd15", G))
    assert step(arguments("sd15", G)).equal(plain)


def test_a_layer_that_does_not_exist_is_an_error_before_any_step():
    with pytest.raises(ValueError, match="'m7' matches nothing"):
        pag.guide(Step(network("sd15"), G), S, layers="m7")


def test_embeddings_of_a_wrong_batch_are_named():
    step, given = Step(network("sd15"), G), arguments("sd15", G, count=2)
    given["encoder_hidden_states"] = given["encoder_hidden_states"][:3]
    with pag.guide(step, S), pytest.raises(ValueError, match=r"encoder_hidden_states of shape \(3, 5, 16\) has 3 rows"):
        step(given)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_bad_scale_is_refused_at_the_front_door(value: float):
    with pytest.raises(ValueError, match="scale must be a finite number"):
        pag.guide(Step(network("sd15"), G), value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
@with_and_without_cfg
def test_half_precision_loses_no_more_than_the_network_does(kind: str, g: float, dtype: torch.dtype):
    """Independent errors of the predictions add up as the squares of their weights: 5.0 and 8.2 times.

    Measured are 3.9 to 4.5 and 6.9 to 7.7: errors of shared rows are equal and cancel.
    """

    def rms(value: Tensor) -> float:
        return value.double().square().mean().sqrt().item()

    def lower(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: lower(item) for name, item in value.items()}  # pyright: ignore
        return value.to(dtype) if value.is_floating_point() else value

    given = lower(arguments(kind, g, count=4))
    exact = {name: value.float() if name != "added_cond_kwargs" else {k: v.float() for k, v in value.items()}
             for name, value in given.items() if name != "timestep"} | {"timestep": given["timestep"]}  # fmt: skip
    path = paths(kind)[1]
    half = cast(Any, zoo.unet(kind)).to(dtype)
    own = rms(half(**given)[0].detach() - network(kind)(**exact)[0].detach())
    step = Step(half, g)
    with pag.guide(step, S, layers=path):
        error = rms(step(given) - by_hand(kind, g, path, "identity", exact))
    weights = (1 + S, S) if g <= 1 else (1 - g, g + S, S)
    assert error <= math.hypot(*weights) * own
