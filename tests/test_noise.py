"""How much of an input is noise, against what schedulers themselves make of an image and noise."""

from typing import Any

import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    KDPM2DiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from pag.noise import level_of
from tests import zoo

IMAGE, NOISE = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def diffusion(scheduler: Any, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What the network gets and what it would predict, if it knew all; and the image's share."""
    signal, noise = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
    noisy = signal * IMAGE + noise * NOISE
    predicted = {"epsilon": NOISE, "v_prediction": signal * NOISE - noise * IMAGE, "sample": IMAGE}
    return noisy, predicted[scheduler.config.prediction_type]


def flow(scheduler: Any, sigma: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - sigma) * IMAGE + sigma * NOISE, NOISE - IMAGE


def edm(scheduler: Any, sigma: Tensor) -> tuple[Tensor, Tensor]:
    noisy = IMAGE + sigma * NOISE
    at_0, at_1 = (scheduler.precondition_outputs(noisy, torch.full_like(noisy, value), sigma) for value in (0.0, 1.0))
    return scheduler.precondition_inputs(noisy, sigma), (IMAGE - at_0) / (at_1 - at_0)


SCHEDULERS: dict[str, tuple[Any, Any]] = {
    "Euler": (EulerDiscreteScheduler(), diffusion),  # linspace: timesteps between those of training
    "Euler, karras": (EulerDiscreteScheduler(use_karras_sigmas=True), diffusion),
    "Euler, v": (EulerDiscreteScheduler(prediction_type="v_prediction"), diffusion),
    "Euler, sample": (EulerDiscreteScheduler(prediction_type="sample"), diffusion),
    "Euler, continuous": (
        EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True),
        diffusion,
    ),
    "DPM++": (DPMSolverMultistepScheduler(), diffusion),
    "EDM": (EDMEulerScheduler(), edm),
    "EDM, v": (EDMEulerScheduler(prediction_type="v_prediction"), edm),
    "flow": (FlowMatchEulerDiscreteScheduler(shift=3.0), flow),
    "UniPC, flow": (UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), flow),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_image_is_found_in_the_input(name: str):
    scheduler, make = SCHEDULERS[name]
    scheduler.set_timesteps(7)
    for time, sigma in zip(scheduler.timesteps.tolist(), scheduler.sigmas.double(), strict=False):
        noisy, predicted = make(scheduler, sigma)
        without_image = make(scheduler, sigma)[0] - _share(make, scheduler, sigma) * IMAGE
        image = level_of(scheduler, time).image(noisy, predicted)
        rounded = "int" in str(scheduler.timesteps.dtype)
        torch.testing.assert_close(noisy - image, without_image, atol=4e-3 if rounded else 1e-4, rtol=0.0)


def _share(make: Any, scheduler: Any, sigma: Tensor) -> Tensor:
    """a, in the input ``a·x₀ + b·n``."""
    if make is flow:
        return 1 - sigma
    return 1 / (1 + sigma**2) ** 0.5 if make is diffusion else 1 / (sigma**2 + scheduler.config.sigma_data**2) ** 0.5


def test_a_timestep_of_training_is_taken_from_the_table():
    scheduler = zoo.ddim()
    level = level_of(scheduler, 500.0)
    assert (level.of_input, float(level.of_output)) == (1.0, -float((1 - scheduler.alphas_cumprod[500]) ** 0.5))


def test_zero_signal_is_no_division():
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert level_of(scheduler, 999.0).image(NOISE, -IMAGE).isfinite().all()


def test_between_two_steps_of_a_solver_of_second_order():
    scheduler = KDPM2DiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(4)
    for time, sigma in zip(scheduler.timesteps[1::2].tolist(), scheduler.sigmas_interpol[1:6:2].tolist(), strict=True):
        assert -float(level_of(scheduler, time).of_output) == pytest.approx(sigma / (1 + sigma**2) ** 0.5, rel=1e-3)


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(TypeError, match=r"CMStochasticIterativeScheduler .* does not tell how much of a sample"):
        level_of(CMStochasticIterativeScheduler(), 0.0)
