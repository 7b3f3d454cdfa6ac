"""Time, operations and memory of guidance against its peers."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pag
from benchmarks import models
from benchmarks.contest import BOTH, CFG, KINDS, NONE, PAG, Contest, guiders, measure, pipelines
from benchmarks.subject import Setting, Subject

Part = Callable[[bool], dict[str, Any]]
"""A part of the benchmark: measures, at full size or at a tiny one, and returns a result for a file."""


def contest(
    make: Callable[[Setting], Subject],
    setting: Setting,
    rounds: int,
    *,
    kinds: tuple[str, ...] = KINDS,
    compiled: str = "",
    approximate: bool = False,
    without: tuple[str, ...] = ("diffusers",),
    low_memory: bool = False,
    small: bool = False,
) -> dict[str, Any]:
    """The plain pipeline, guided and not, against diffusers' PAG pipeline.

    Args:
        make: makes the pipelines.
        setting: what is drawn.
        rounds: how often each contender is timed.
        kinds: which guidance.
        compiled: mode of `torch.compile`, empty for none.
        approximate: measure cheaper guidance too, which shows over a whole run.
        without: whose guidance then gives way to it.
        low_memory: measure that mode too.
        small: measure a tiny network, to try the benchmark.
    """
    if small:
        # reuse shows in runs of ten steps at the least
        setting, rounds, compiled = _small(setting, 10 if approximate else 2), 1, ""
    found = pipelines(make(setting), approximate, low_memory)
    left_out = without if approximate else ()
    chosen = [one for one in found.contenders if one.kind in kinds and one.by not in left_out]
    return _result(make.__name__, replace(found, contenders=chosen), setting, rounds, compiled)


def contest_of_guiders(setting: Setting, rounds: int, *, small: bool = False) -> dict[str, Any]:
    """diffusers' guider against ours."""
    if small:
        setting, rounds = _small(setting, 2), 1
    return _result("guiders", guiders(setting), setting, rounds, "")


def _small(setting: Setting, steps: int) -> Setting:
    steps = min(setting.steps, steps)
    return replace(setting, size=128, batch=1, steps=steps, device="cpu", dtype="float32", small=True)


def _result(model: str, found: Contest, setting: Setting, rounds: int, compiled: str) -> dict[str, Any]:
    network = found.costs or found.network
    costs = {kind: asdict(pag.cost(network, found.layers, cfg=cfg)) for kind, cfg in ((PAG, False), (BOTH, True))}
    measured = measure(found, setting, rounds, compiled)
    about = {"model": model, "compiled": compiled, "rounds": rounds, **asdict(setting)}
    return about | {"costs": costs} | measured


def _contest(make: Callable[[Setting], Subject], size: int, batch: int, rounds: int, **more: Any) -> Part:
    steps = more.pop("steps", 1)
    return partial(_run, partial(contest, make, Setting(size, batch, steps), rounds, **more))


def _run(part: Callable[..., dict[str, Any]], small: bool) -> dict[str, Any]:
    return part(small=small)


ON_CPU: dict[str, Part] = {
    "sd15-256-1": _contest(models.sd15, 256, 1, 4, low_memory=True),
    "sd15-512-1": _contest(models.sd15, 512, 1, 3),
    "sd15-256-4": _contest(models.sd15, 256, 4, 2),
    "sd15-256-2": _contest(models.sd15, 256, 2, 2, kinds=(CFG, BOTH)),
    "sd15-384-1": _contest(models.sd15, 384, 1, 2, kinds=(CFG, BOTH)),
    "sd15-run": _contest(
        models.sd15, 256, 1, 2, kinds=(CFG, BOTH), steps=25, approximate=True, without=("diffusers", "here")
    ),
    "sd15-512-4": _contest(models.sd15, 512, 4, 2, kinds=(NONE, CFG, BOTH)),
    "sd15-512-run": _contest(
        models.sd15, 512, 1, 2, kinds=(CFG, BOTH), steps=25, approximate=True, without=("diffusers", "here")
    ),
    "controlnet-256-1": _contest(models.sd15_controlnet, 256, 1, 3),
    "pixart-256-1": _contest(models.pixart_sigma, 256, 1, 3),
    "pixart-256-4": _contest(models.pixart_sigma, 256, 4, 2, kinds=(CFG, BOTH)),
    "guiders-256-1": partial(_run, partial(contest_of_guiders, Setting(256, 1, 2), 3)),
    "avatars-64-1": _contest(models.avatars, 64, 1, 7, steps=25),
    "avatars-64-4": _contest(models.avatars, 64, 4, 5, steps=25),
    "avatars-run": _contest(models.avatars, 64, 4, 5, kinds=(CFG, BOTH), steps=25, approximate=True),
}
"""Parts by name."""

_GPU = {"sdxl": models.sdxl, "sd35": models.sd35_medium, "flux": models.flux}
_MODES = {"": "", "-compiled": "default", "-graphs": "reduce-overhead"}

ON_GPU: dict[str, Part] = {
    f"{name}-1024-{batch}{suffix}-cuda": partial(
        _run,
        partial(contest, make, Setting(1024, batch, 4, "cuda", "bfloat16"), 5, compiled=mode, low_memory=True),
    )
    for name, make in _GPU.items()
    for batch in (1, 4)
    for suffix, mode in _MODES.items()
} | {
    f"{name}-run-cuda": partial(
        _run,
        partial(contest, make, Setting(1024, 1, 28, "cuda", "bfloat16"), 3, kinds=(CFG, BOTH), approximate=True),
    )
    for name, make in _GPU.items()
}
