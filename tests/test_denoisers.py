"""The laws of guidance on every denoiser class that diffusers has, from one table of tiny networks.

The caller is the least that a pipeline is. What a guided call must give is computed from separate forwards of the plain
network and of one whose attention is masked densely, which uses nothing of ours.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pag
from pag.families import Convention
from tests import masked, zoo
from tests.denoisers import NETWORKS, Network

G, S = 4.0, 3.0

every_network = pytest.mark.parametrize("name", NETWORKS)
with_and_without_cfg = pytest.mark.parametrize("g", [0.0, G], ids=["alone", "cfg"])


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


def by_hand(network: Network, g: float, path: str, given: dict[str, Any]) -> list[Tensor]:
    """The formula of the paper from separate forwards."""
    model, image = network.model(), network.image_at(path)
    if g > 1 and isinstance(image, Sequence):
        image = [*image, *image]
    with torch.no_grad():
        plain = predictions(network, model(**given))
        with masked.perturbs(model, path, image, network.reference):
            worse = predictions(network, model(**given))
    results: list[Tensor] = []
    for output, perturbed in zip(plain, worse, strict=True):
        u, c, p = (*output.chunk(2), perturbed.chunk(2)[1]) if g > 1 else (output, output, perturbed)
        guided = u + g * (c - u) if g > 1 else c
        results.append(torch.cat([mean(network, guided + S * (c - p)), rest(network, c)], dim=1))
    return results


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(zoo.difference(a, b) for a, b in zip(one, other, strict=True))


@every_network
@with_and_without_cfg
def test_a_guided_call_gives_the_formula(name: str, g: float):
    network = NETWORKS[name]
    step = Step(network.model(), g)
    for path in network.paths:
        given = step_arguments(network, g, rows_of(network, path))
        with pag.guide(step, S, layers=path):
            result = step(network, given)
        assert difference(result, by_hand(network, g, path, given)) <= 1e-5, path
        assert difference(result, step(network, given)) > 1e-4, path


def rows_of(network: Network, path: str) -> int:
    image = network.image_at(path)
    return len(image) if isinstance(image, Sequence) else 2


@every_network
@with_and_without_cfg
def test_sharing_rows_is_exact(name: str, g: float):
    network, results = NETWORKS[name], list[list[Tensor]]()
    step, path = Step(network.model(), g), network.paths[-1]
    given = step_arguments(network, g, rows_of(network, path))
    for share_rows in (True, False):
        with pag.guide(step, S, layers=path, share_rows=share_rows):
            results.append(step(network, given))
    assert difference(*results) <= 1e-5


@every_network
def test_off_is_exact(name: str):
    network = NETWORKS[name]
    step, path = Step(network.model(), G), network.paths[0]
    given = step_arguments(network, G, rows_of(network, path))
    expected = step(network, given)
    with pag.guide(step, 0.0, layers=path):
        assert all(a.equal(b) for a, b in zip(step(network, given), expected, strict=True))
    with pag.guide(step, S, layers=path):
        step(network, given)
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
    if reason := network.xfail.get("cost"):
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    costs = pag.layer_costs(network.model())
    assert [cost.site for cost in costs] == list(pag.sites(network.model()))
    assert all(0 <= cost.extra < 1 for cost in costs)
