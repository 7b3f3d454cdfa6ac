"""Every scheduler of diffusers for models that predict noise samples ADM; those for other models are refused."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

import pag
from tests.adm import tiny

SCHEDULERS = {cls.__name__: cls for cls in DDIMScheduler().compatibles if cls.__name__ != EDMEulerScheduler.__name__}

# Of torchsde, which rounds the ends of the noise levels.
pytestmark = pytest.mark.filterwarnings("ignore:Should have tb<=t1")


def made(scheduler: Any, channels: int = 3, **more: Any) -> Any:
    pipe: Any = pag.ADMPipeline(tiny.unet(channels), scheduler, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def published() -> Any:
    return DDPMScheduler(variance_type="learned_range", timestep_spacing="linspace")


def run(pipe: Any, *numbers: int, **call: Any) -> Tensor:
    numbers = numbers or (0,)
    if hasattr(pipe.scheduler, "noise_sampler_seed"):
        pipe.scheduler.noise_sampler_seed = [*numbers]
    given: dict[str, Any] = {"num_inference_steps": 4, "pag_scale": 2.0, "output_type": "latent"} | call
    generators = [torch.Generator().manual_seed(number) for number in numbers]
    count = {} if "class_labels" in call else {"num_images": len(numbers)}
    return pipe(generator=generators, **count, **given).images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler(name: str, channels: int):
    pipe = made(SCHEDULERS[name].from_config(published().config), channels)
    pipe.unet.double()  # as rounding depends on the size of a batch
    guided = run(pipe, 0, 1)
    assert torch.isfinite(guided).all()
    torch.testing.assert_close(run(pipe, 1), guided[1:], atol=1e-5, rtol=0.0)
    plain = run(pipe, 0, 1, pag_scale=0.0)
    assert (guided - plain).abs().max() > 1e-3
    half = run(pipe, 0, 1, pag_stop=0.5)
    assert not torch.equal(half, guided)
    assert not torch.equal(half, plain)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_guided_by_a_classifier(name: str):
    pipe = made(SCHEDULERS[name].from_config(published().config), classifier=tiny.Classifier())
    steps: dict[str, Any] = {"num_inference_steps": 20, "pag_scale": 0.0, "class_labels": 3}

    def probability(scale: float) -> float:
        images = run(pipe, classifier_scale=scale, **steps)
        with torch.no_grad():
            return float(pipe.classifier(images.clamp(-1, 1), torch.zeros(1)).softmax(1)[0, 3])

    assert probability(20.0) > probability(1e-9) + 0.01


@pytest.mark.parametrize(
    "config",
    [
        {"set_alpha_to_one": False},
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
        {"thresholding": True, "clip_sample": False, "beta_schedule": "squaredcos_cap_v2"},
        {"clip_sample_range": 0.5, "steps_offset": 1},
    ],
)
def test_even_steps_are_diffusers_own(config: dict[str, Any]):
    scheduler: Any = DDIMScheduler(**config)
    pipe = made(scheduler)
    images = run(pipe, pag_scale=0.0)
    sample = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        with torch.no_grad():
            noise = pipe.unet(sample, t).sample[:, :3]
        sample = scheduler.step(noise, t, sample, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(images, sample, atol=1e-5, rtol=1e-5)


def test_a_learned_variance_is_for_ddpm_only():
    # The option stays in the configuration of schedulers that do not have it.
    pipe = made(DDIMScheduler.from_config(published().config))
    assert pipe.scheduler.config["variance_type"] == "learned_range"
    assert torch.isfinite(run(pipe)).all()


def test_ddpm_with_a_fixed_variance_takes_the_noise_alone():
    pipe = made(DDPMScheduler(variance_type="fixed_small"))
    images = run(pipe)
    with torch.no_grad():
        pipe.unet.conv_out.weight[3:] = 0
    assert torch.equal(run(pipe), images)


def test_ddpm_refuses_a_model_without_the_variance():
    pipe = made(published())
    with torch.no_grad():
        pipe.unet.conv_out = torch.nn.Conv2d(32, 3, 3, padding=1)
    pipe.unet.register_to_config(out_channels=3)
    with pytest.raises(
        ValueError, match=r"DDPMScheduler takes a learned variance .* which this model does not predict"
    ):
        run(pipe)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        EDMEulerScheduler(),
    ],
)
def test_schedulers_of_other_models_are_refused(scheduler: Any):
    with pytest.raises(ValueError, match=f"{type(scheduler).__name__} is for models that predict a flow or the like"):
        run(made(scheduler))


def test_second_order_calls_the_denoiser_twice_a_step():
    pipe = made(HeunDiscreteScheduler())
    calls: list[int] = []
    pipe.unet.conv_out.register_forward_hook(lambda *_: calls.append(1))
    run(pipe, num_inference_steps=3)
    assert len(calls) == len(pipe.scheduler.timesteps) == 5


def test_the_initial_noise_and_the_input_are_scaled():
    scheduler = EulerDiscreteScheduler(timestep_spacing="linspace")
    pipe = made(scheduler)
    seen: list[Tensor] = []
    pipe.unet.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    run(pipe, pag_scale=0.0)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        seen[0], noise * scheduler.init_noise_sigma / (scheduler.sigmas[0] ** 2 + 1) ** 0.5, atol=1e-5, rtol=1e-5
    )


def test_eta_is_for_ddim():
    with pytest.raises(ValueError, match=r"DPMSolverMultistepScheduler knows no eta, but eta=0\.5 was given"):
        run(made(DPMSolverMultistepScheduler()), eta=0.5)


class TestTimesteps:
    @pytest.mark.parametrize("scheduler", [DDIMScheduler(), published(), DPMSolverMultistepScheduler()])
    def test_of_ones_own(self, scheduler: Any):
        pipe = made(scheduler)
        seen: list[int] = []
        pipe.unet.register_forward_pre_hook(lambda _module, inputs: seen.append(int(inputs[1])))
        run(pipe, timesteps=[900, 500, 100], pag_scale=0.0)
        assert seen == [900, 500, 100]

    @pytest.mark.parametrize("timesteps", [[], [1, 2], [3, 3], [1000, 0], [5, -1]])
    def test_wrong_ones(self, timesteps: list[int]):
        with pytest.raises(ValueError, match="timesteps must fall, from below 1000 to 0 or more, but are"):
            run(made(DDIMScheduler()), timesteps=timesteps)

    def test_a_scheduler_that_takes_none(self):
        with pytest.raises(ValueError, match="UniPCMultistepScheduler takes no timesteps of your own"):
            run(made(UniPCMultistepScheduler()), timesteps=[900, 100])
