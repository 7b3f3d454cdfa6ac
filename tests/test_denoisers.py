"""The laws of guidance on every denoiser class that diffusers has, from one table of tiny networks.

The caller is the least that a pipeline is. What a guided call must give is computed from separate forwards of the plain
network and of one whose attention is masked densely, which uses nothing of ours.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import pag
import pag.forward
from pag.families import Convention
from tests import masked, zoo
from tests.denoisers import NETWORKS, Network
from tests.denoisers._network import strong

G, S = 4.0, 3.0

every_network = pytest.mark.parametrize("name", NETWORKS)
with_and_without_cfg = pytest.mark.parametrize("g", [0.0, G], ids=["alone", "cfg"])


def gap(network: Network, what: str, request: pytest.FixtureRequest) -> None:
    if reason := network.xfail.get(what):
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


class Step:
    """One step of a pipeline that passes all rows in one call: ``u + g·(c − u)``."""

    pag_convention = Convention()

    def __init__(self, model: nn.Module, g: float) -> None:
        self.transformer, self.guidance_scale, self.scheduler = model, g, zoo.ddim()
        self.scheduler.set_timesteps(10)

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self.guidance_scale > 1

    @torch.no_grad()
    def __call__(self, network: Network, arguments: dict[str, Any]) -> list[Tensor]:
        outputs = predictions(network, self.transformer(**arguments))
        return [self.combined(network, output) for output in outputs]

    def combined(self, network: Network, output: Tensor) -> Tensor:
        if not self.do_classifier_free_guidance:
            return output
        u, c = output.chunk(2)
        guided = u + self.guidance_scale * (c - u)
        return torch.cat([mean(network, guided), rest(network, c)], dim=1)


def predictions(network: Network, output: Any) -> list[Tensor]:
    return [torch.stack(one) if isinstance(one := output[index], list) else one for index in range(network.predictions)]


def mean(network: Network, output: Tensor) -> Tensor:
    return output.chunk(2, dim=1)[0] if network.variance else output


def rest(network: Network, output: Tensor) -> Tensor:
    return output.chunk(2, dim=1)[1] if network.variance else output[:, :0]


def step_arguments(network: Network, g: float, count: int = 1) -> dict[str, Any]:
    """What a pipeline passes for images that all differ: with CFG twice, but for the text."""
    cond = network.arguments(count)
    if g <= 1:
        return cond
    other = network.arguments(count, seed=1)
    return {
        name: joined(network, name, other[name] if name.split(".")[0] in network.uncond else value, value)
        for name, value in cond.items()
    }


def joined(network: Network, name: str, one: Any, other: Any) -> Any:
    if name in network.tables:
        return other
    if name in network.row_lists:
        return [*one, *other]
    if isinstance(one, dict):
        return {key: joined(network, f"{name}.{key}", one[key], other[key]) for key in one}  # pyright: ignore
    if isinstance(one, list | tuple):
        return type(one)(joined(network, name, a, b) for a, b in zip(one, other, strict=True))  # pyright: ignore
    if not isinstance(one, Tensor) or one.ndim == 0:
        return other
    return torch.cat([one, other])


def by_hand(network: Network, g: float, parts: Sequence[list[Tensor]], s: float = S) -> list[Tensor]:
    """The formula of the paper from what separate forwards give."""
    results: list[Tensor] = []
    for u, c, p in zip(*parts, strict=True):
        guided = u + g * (c - u) if g > 1 else c
        results.append(torch.cat([mean(network, guided + s * (c - p)), rest(network, c)], dim=1))
    return results


@torch.no_grad()
def separate(network: Network, model: nn.Module, g: float, path: str, given: dict[str, Any]) -> list[list[Tensor]]:
    """The predictions u, c and ĉ, each a list of all that the network predicts."""
    image = network.image_at(path)
    if g > 1 and isinstance(image, Sequence):
        image = [*image, *image]
    plain = predictions(network, model(**given))
    with masked.perturbs(model, path, image, network.reference):
        worse = predictions(network, model(**given))
    groups = 2 if g > 1 else 1
    uncond, cond = [one.chunk(groups)[0] for one in plain], [one.chunk(groups)[-1] for one in plain]
    return [uncond, cond, [one.chunk(groups)[-1] for one in worse]]


@cache
def guided_step(name: str, g: float, path: str) -> list[Tensor]:
    """What a guided step gives, of images that all differ. Several tests compare with it."""
    network = NETWORKS[name]
    step = Step(network.model(), g)
    with pag.guide(step, S, layers=path):
        return step(network, step_arguments(network, g, rows_of(network, path)))


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(zoo.difference(a, b) for a, b in zip(one, other, strict=True))


@every_network
@with_and_without_cfg
def test_a_guided_call_gives_the_formula(name: str, g: float):
    network = NETWORKS[name]
    for path in network.paths:
        given = step_arguments(network, g, rows_of(network, path))
        parts, result = separate(network, network.model(), g, path, given), guided_step(name, g, path)
        assert difference(result, by_hand(network, g, parts)) <= network.rounding, path
        assert difference(result, by_hand(network, g, parts, 0.0)) > 10 * network.rounding, path


def rows_of(network: Network, path: str) -> int:
    image = network.image_at(path)
    return len(image) if isinstance(image, Sequence) else 2


@every_network
@with_and_without_cfg
def test_sharing_rows_is_exact(name: str, g: float):
    network = NETWORKS[name]
    step, path = Step(network.model(), g), network.paths[-1]
    with pag.guide(step, S, layers=path, share_rows=False):
        unshared = step(network, step_arguments(network, g, rows_of(network, path)))
    assert difference(guided_step(name, g, path), unshared) <= network.rounding


@every_network
@with_and_without_cfg
def test_sharing_rows_at_several_layers_is_exact(name: str, g: float):
    """Ahead of the second one perturbed rows differ, but they need no queries and keys there, if all tokens do."""
    network, results = NETWORKS[name], list[list[Tensor]]()
    step, sites = Step(network.model(), g), pag.sites(network.model())
    paths = [*network.paths, sites[-1].path]
    given = step_arguments(network, g, max(rows_of(network, path) for path in network.paths))
    for share_rows in (True, False):
        with pag.guide(step, S, layers=paths, share_rows=share_rows):
            results.append(step(network, given))
    assert difference(*results) <= network.rounding


@every_network
def test_off_is_exact(name: str):
    network = NETWORKS[name]
    step, path = Step(network.model(), G), network.paths[0]
    given = step_arguments(network, G, rows_of(network, path))
    expected = step(network, given)
    with pag.guide(step, 0.0, layers=path):
        assert all(a.equal(b) for a, b in zip(step(network, given), expected, strict=True))


@every_network
def test_the_recommended_layer_exists(name: str):
    network = NETWORKS[name]
    guide = pag.guide(Step(network.model(), G), S, layers="auto")
    assert guide.sites
    assert {site.path for site in guide.sites} <= {site.path for site in pag.sites(network.model())}


@every_network
def test_every_layer_is_known_by_its_names(name: str):
    sites = pag.sites(NETWORKS[name].model())
    assert set(NETWORKS[name].paths) <= {site.path for site in sites}
    for site in sites:
        for spelling in (site.path, f"{site.path}.processor", site.block or site.path):
            assert site in pag.guide(Step(NETWORKS[name].model(), G), S, layers=spelling).sites


@every_network
def test_the_cost_of_every_layer_is_counted(name: str, request: pytest.FixtureRequest):
    network = NETWORKS[name]
    gap(network, "cost", request)
    costs = pag.layer_costs(network.model())
    assert [cost.site for cost in costs] == list(pag.sites(network.model()))
    assert all(0 <= cost.extra < 1 for cost in costs)


@every_network
def test_what_goes_on_comes_off(name: str):
    """After a run, and after one that a layer ended: every attribute of every module is the very object that it was."""
    network = NETWORKS[name]
    model, path = network.model(), network.paths[0]
    step, given = Step(model, G), step_arguments(network, G, rows_of(network, path))
    start, expected, before = zoo.state_of(model), step(network, given), zoo.state_of(model)

    def fail(*_: Any) -> None:
        raise MemoryError

    with pag.guide(step, S, layers=path):
        step(network, given)
    hook = model.get_submodule(path).register_forward_hook(fail)
    with pytest.raises(MemoryError), pag.guide(step, S, layers=path):
        step(network, given)
    hook.remove()
    after = zoo.state_of(model)
    for module, attributes in before.items():
        assert after[module].keys() == attributes.keys(), module
        kept = {name: value for name, value in attributes.items() if value is start[module][name]}  # by a plain run
        assert all(after[module][name] is value for name, value in kept.items()), module
    assert all(a.equal(b) for a, b in zip(step(network, given), expected, strict=True))


@every_network
def test_a_layer_that_cannot_be_reached_is_an_error(name: str):
    network = NETWORKS[name]
    path = network.paths[-1]
    model = strong(network.make)
    attention: Any = model.get_submodule(path)
    given = step_arguments(network, G, rows_of(network, path))
    with pag.guide(Step(model, G), S, layers=path):
        plain = type(attention).forward

        def elsewhere(self: Any, *args: Any, **kwargs: Any) -> Any:
            """Attention by an operation that nobody can answer for."""
            with torch._C.DisableTorchFunction():  # pyright: ignore
                return plain(self, *args, **kwargs)

        unreached = mock.patch.object(pag.forward, "native_call", return_value=partial(elsewhere, attention))
        with unreached, pytest.raises(RuntimeError, match="did not reach"):
            Step(model, G)(network, given)


@every_network
def test_an_image_depends_on_its_own_rows_alone(name: str):
    """Up to the rounding of other batch sizes, which the weights of the formula multiply by 13."""
    network = NETWORKS[name]
    path = network.paths[-1]
    count = rows_of(network, path)
    step, given = Step(network.model(), G), step_arguments(network, G, count)
    with pag.guide(step, S, layers=path):
        together = step(network, given)
        for index in range(count):
            alone = step(network, rows(network, "", given, [index, count + index], 2 * count))
            assert difference([one[[index]] for one in together], alone) <= 13 * network.rounding / 5


def rows(network: Network, name: str, value: Any, chosen: list[int], total: int) -> Any:
    if name in network.tables:
        return value
    if name in network.row_lists:
        return [value[row] for row in chosen]
    if isinstance(value, dict):
        return {key: rows(network, key, item, chosen, total) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return type(value)(rows(network, name, item, chosen, total) for item in value)  # pyright: ignore
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.unflatten(0, (total, -1))[chosen].flatten(0, 1)


@every_network
@with_and_without_cfg
def test_half_precision_loses_no_more_than_the_network_does(name: str, g: float, request: pytest.FixtureRequest):
    """The error is at most the weighted sum of the errors of the predictions: where they are combined nothing is lost.

    But for the rounding of the result.
    """
    network = NETWORKS[name]
    gap(network, "half", request)
    path = network.paths[-1]
    given = lower(step_arguments(network, g, rows_of(network, path)))
    half = in_half_precision(name)
    parts = separate(network, half, g, path, given)
    exact = separate(network, network.model(), g, path, higher(given))
    errors = [
        [rms(mean(network, a) - mean(network, b)) for a, b in zip(*both, strict=True)]
        for both in zip(parts, exact, strict=True)
    ]
    step = Step(half, g)
    with pag.guide(step, S, layers=path):
        guided = step(network, given)
    weights = (0, 1 + S, S) if g <= 1 else (g - 1, g + S, S)
    for index, (ours, expected) in enumerate(zip(guided, by_hand(network, g, exact), strict=True)):
        ours, expected = mean(network, ours), mean(network, expected)
        rounding = rms(expected) * torch.finfo(torch.bfloat16).eps / 2
        bound = sum(weight * error[index] for weight, error in zip(weights, errors, strict=True))
        assert rms(ours - expected) <= bound + rounding


@cache
def in_half_precision(name: str) -> nn.Module:
    return strong(NETWORKS[name].make).to(torch.bfloat16)


def lower(value: Any) -> Any:
    return _cast(value, torch.float32, torch.bfloat16)


def higher(value: Any) -> Any:
    return _cast(value, torch.bfloat16, torch.float32)


def _cast(value: Any, given: torch.dtype, wanted: torch.dtype) -> Any:
    if isinstance(value, dict):
        return {name: _cast(item, given, wanted) for name, item in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return type(value)(_cast(item, given, wanted) for item in value)  # pyright: ignore
    return value.to(wanted) if isinstance(value, Tensor) and value.dtype == given else value


def rms(value: Tensor) -> float:
    return value.double().square().mean().sqrt().item()
