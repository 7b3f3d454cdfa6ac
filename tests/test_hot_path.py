"""What runs in each step: nothing that waits for the device, nothing more than the plain network with guidance off."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import pag
from pag.denoiser import GuidedDenoiser
from tests.runs import RUNS, Run

S = 3.0
WAITS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "lift_fresh")
"""Operations that wait for the device for a value, or bring one there that Python has just made."""
NAMES = {
    "unet": "StableDiffusionPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux in two calls": "FluxPipeline: true CFG",
    "wan": "WanPipeline",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "constant": {},
    "interval": {"start": 0.2, "stop": 0.6},
    "adaptive": {"adaptive_scale": 0.001},
    "reuse": {"reuse": pag.Reuse(pag=2, cfg=2)},
}


class Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> dict[str, int]:
        return {name: self.seen[name] for name in WAITS if name in self.seen}


class StaticOutputs:
    """A network whose outputs lie at the same place each time, as those of CUDA graphs: a call ends the last one's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
        self._plain = model.forward
        self._kept: dict[Any, Tensor] = {}
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self._plain(*args, **kwargs)
        for old in self._kept.values():
            old.fill_(float("nan"))
        return tuple(self._static((index,), value) for index, value in enumerate(tuple(output)))

    def _static(self, place: tuple[int, ...], value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._static((*place, index), one) for index, one in enumerate(value)]  # pyright: ignore
        if not isinstance(value, Tensor):
            return value
        return self._kept.setdefault((place, value.shape), torch.empty_like(value)).copy_(value)


def run_of(name: str) -> Run:
    return RUNS[NAMES[name]]


def sample(run: Run, pipe: Any, steps: int = 4) -> Tensor:
    return run.sample(pipe, num_inference_steps=steps)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Generator[list[Operations]]:
    """The operations of each call of a guided denoiser, those of the network and ours."""
    calls: list[Operations] = []
    guided: Any = GuidedDenoiser._guided  # pyright: ignore[reportPrivateUsage]

    def watching(self: GuidedDenoiser, *args: Any, **kwargs: Any) -> Any:
        calls.append(Operations())
        with calls[-1]:
            return guided(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(GuidedDenoiser, "_guided", watching)
        yield calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_guided_call_but_the_first_of_a_run_waits_for_the_device(
    name: str, settings: str, monkeypatch: pytest.MonkeyPatch
):
    run = run_of(name)
    pipe = run.make()
    with watched(monkeypatch) as calls, pag.guide(pipe, S, layers=run.path, **SETTINGS[settings]):
        sample(run, pipe)
        later = calls[1:]
        calls.clear()
        sample(run, pipe)
        later += calls[1:]
    assert len(later) >= 6
    assert [call.waits for call in later] == [{}] * len(later)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scale", "start"), [(0.0, 0.0), (S, 0.999999)], ids=["scale 0", "before the interval"])
def test_off_every_operation_is_the_plain_networks(name: str, scale: float, start: float):
    """Operations of the whole run by name, what they cost, and calls of modules."""
    run = run_of(name)
    pipe = run.make()
    modules: list[str] = []
    for path, module in (getattr(pipe, "unet", None) or pipe.transformer).named_modules():
        module.register_forward_hook(lambda *_, path=path: modules.append(path))  # pyright: ignore

    def counted() -> tuple[Counter[str], int, list[str], Tensor]:
        modules.clear()
        with FlopCounterMode(display=False) as flops, Operations() as operations:
            result = sample(run, pipe)
        return operations.seen, flops.get_total_flops(), modules.copy(), result

    plain = counted()
    with pag.guide(pipe, scale, layers=run.path, start=start):
        off = counted()
    assert off[:3] == plain[:3]
    assert off[3].equal(plain[3])


@pytest.mark.parametrize("name", ["unet", "sd3"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_outputs_may_be_overwritten_by_the_next_call(name: str, settings: str, monkeypatch: pytest.MonkeyPatch):
    run = run_of(name)
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path, **SETTINGS[settings]):
        expected = sample(run, pipe)
        StaticOutputs(monkeypatch, getattr(pipe, "unet", None) or pipe.transformer)
        assert sample(run, pipe).equal(expected)


@pytest.mark.parametrize("settings", ["constant", "reuse"])
@pytest.mark.parametrize("name", ["flux in two calls", "wan"])
def test_deltas_outlive_the_call_that_they_are_from(name: str, settings: str, monkeypatch: pytest.MonkeyPatch):
    """The pipelines themselves keep the prompt's prediction while they call for the other one; ours is a copy."""
    run = run_of(name)
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path, **SETTINGS[settings]):
        expected = sample(run, pipe)
    plain = sample(run, pipe)
    with pag.guide(pipe, S, layers=run.path, **SETTINGS[settings]):
        StaticOutputs(monkeypatch, pipe.transformer)
        assert sample(run, pipe).equal(expected)
    assert not sample(run, pipe).equal(plain)


def test_a_network_that_is_called_twice_for_the_prompt_may_overwrite_its_output(monkeypatch: pytest.MonkeyPatch):
    run = RUNS["Cosmos3OmniPipeline"]
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path):
        expected = sample(run, pipe)
        StaticOutputs(monkeypatch, pipe.transformer)
        assert sample(run, pipe).equal(expected)
