"""Guidance under each attention backend of diffusers that runs here: never without effect, and nothing stays changed.

At perturbed layers attention is the native operation, whatever is set; everywhere else the backend that is set is used.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry, attention_backend  # pyright: ignore
from torch import Tensor, nn
from torch.nn.attention import flex_attention

import pag
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.test_denoisers import S, Step, difference, step_arguments

G = 4.0
BACKENDS = ("native", "_native_math", "_native_flash", "flex")
NAMES = ("flux", "wan", "sd3", "pixart")
"""Joint attention, text in attention of its own, and two with processors that know no backends."""

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture(autouse=True)
def _default_backend() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Setting a network's backend also sets the one of the whole process."""
    before = _AttentionBackendRegistry._active_backend  # pyright: ignore
    yield
    _AttentionBackendRegistry.set_active_backend(before)  # pyright: ignore


def build(name: str, backend: str | None = None) -> Any:
    model: Any = strong(NETWORKS[name].make)
    if backend is not None:
        model.set_attention_backend(backend)
    return model


def guided(name: str, model: nn.Module, s: float = S) -> list[Tensor]:
    network = NETWORKS[name]
    step = Step(model, G)
    with pag.guide(step, s, layers=network.paths[0]):
        return step(network, step_arguments(network, G, 2))


def backends(model: nn.Module) -> dict[str, Any]:
    """What every processor holds, and the backend of the process."""
    held = {
        path: dict(vars(module.processor)) for path, module in model.named_modules() if hasattr(module, "processor")
    }
    return held | {"": _AttentionBackendRegistry._active_backend}  # pyright: ignore


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_set(name: str, backend: str):
    expected, plain = guided(name, build(name)), guided(name, build(name), 0.0)
    model = build(name, backend)
    before = backends(model)
    result = guided(name, model)
    assert difference(result, expected) <= 1e-4
    assert difference(result, plain) > 1e-3
    assert backends(model) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_of_a_context(name: str, backend: str):
    expected, model = guided(name, build(name)), build(name)
    before = backends(model)
    with attention_backend(backend):
        assert difference(guided(name, model), expected) <= 1e-4
    assert backends(model) == before


@pytest.mark.parametrize("context", [False, True], ids=["set", "context"])
@pytest.mark.parametrize(("name", "layers"), [("flux", 4), ("wan", 6)])
def test_layers_that_are_not_perturbed_keep_their_backend(
    name: str, layers: int, context: bool, monkeypatch: pytest.MonkeyPatch
):
    calls: list[int] = []
    flex: Any = flex_attention.flex_attention

    def counting(query: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(query.shape[0])
        return flex(query, *args, **kwargs)

    monkeypatch.setattr(flex_attention, "flex_attention", counting)
    model = build(name, None if context else "flex")
    with attention_backend("flex") if context else nullcontext():
        guided(name, model, 0.0)
        assert len(calls) == layers
        calls.clear()
        guided(name, model)
    assert len(calls) == layers - 1, "all but the perturbed one"


@pytest.mark.parametrize("context", [False, True], ids=["set", "context"])
@pytest.mark.parametrize("name", NAMES)
def test_an_error_leaves_the_backend_as_it_was(name: str, context: bool):
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    model = build(name, None if context else "flex")
    before = backends(model)
    hook = model.get_submodule(NETWORKS[name].paths[0]).to_v.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError), attention_backend("flex") if context else nullcontext():
        guided(name, model)
    assert backends(model) == before
    hook.remove()
    assert difference(guided(name, model), guided(name, build(name))) <= 1e-4


def test_a_backend_that_was_reset():
    model = build("flux", "flex")
    model.reset_attention_backend()  # which leaves a value of None behind
    before = backends(model)
    with attention_backend("flex"):
        result = guided("flux", model)
    assert difference(result, guided("flux", build("flux"))) <= 1e-4
    assert backends(model) == before


@pytest.mark.parametrize("backend", ["flash", "sage", "xformers"])
def test_a_backend_whose_package_is_absent_is_refused_by_diffusers(backend: str):
    model = build("flux")
    with pytest.raises(RuntimeError, match="not usable"):
        model.set_attention_backend(backend)
    assert difference(guided("flux", model), guided("flux", build("flux"))) <= 1e-5


def test_a_backend_that_cannot_run_here_is_an_error_with_guidance_too():
    model = build("flux", "_native_efficient")
    before = backends(model)
    with pytest.raises(RuntimeError, match="No viable backend"):
        guided("flux", model)
    assert backends(model) == before
