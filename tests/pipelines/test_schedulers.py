"""Every scheduler that diffusers lists for Stable Diffusion runs with guidance on."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from pag import StableDiffusionPAGPipeline
from tests import zoo

SCHEDULERS = {cls.__name__: cls for cls in DDIMScheduler().compatibles}


@pytest.fixture(scope="module")
def pipe() -> Any:
    made: Any = StableDiffusionPAGPipeline.from_pipe(zoo.pipeline())
    made.set_progress_bar_config(disable=True)
    return made


def test_the_list_is_whole() -> None:
    assert len(SCHEDULERS) == 15


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler(pipe: Any, name: str) -> None:
    seeded: dict[str, Any] = {"noise_sampler_seed": 0} if name == "DPMSolverSDEScheduler" else {}
    pipe.scheduler = SCHEDULERS[name].from_config(zoo.ddim().config, **seeded)
    run: dict[str, Any] = zoo.prompts() | {"steps": 4}
    guided = zoo.sample(pipe, pag_scale=2.0, **run)
    assert torch.isfinite(guided).all()
    assert torch.equal(guided, zoo.sample(pipe, pag_scale=2.0, **run))
    unguided = zoo.sample(pipe, pag_scale=0.0, **run)
    assert zoo.difference(unguided, guided) > 1e-3
    # The interval means something for every kind of timestep: half of it is neither all nor nothing.
    half = zoo.sample(pipe, pag_scale=2.0, pag_stop=0.5, **run)
    assert not torch.equal(half, guided)
    assert not torch.equal(half, unguided)
