"""Whole runs against ADM's sampling by the papers' formulas, in double precision and without any scheduler."""

import copy
from typing import Any

import pytest
import torch
from diffusers import DDIMParallelScheduler, DDIMScheduler, DDPMParallelScheduler, DDPMScheduler
from torch import Tensor

import pag
from tests import reference
from tests.adm import tiny
from tests.adm.diffusion import Diffusion, even, sections, strided

LAYER = "mid_block.attentions.0"
BOUND = 1e-4
LABELS = [1, 3]


def ddpm(cls: Any = DDPMScheduler, **config: Any) -> Any:
    return cls(**{"variance_type": "learned_range", "timestep_spacing": "linspace"} | config)


def ddim(cls: Any = DDIMScheduler, **config: Any) -> Any:
    return cls(**{"timestep_spacing": "leading", "steps_offset": 0, "set_alpha_to_one": True} | config)


def made(scheduler: Any, classes: int | None = None, classifier: Any = None) -> Any:
    pipe: Any = pag.ADMPipeline(tiny.unet(classes=classes), scheduler, classifier)
    pipe.set_pag_applied_layers(LAYER)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(count: int = 2) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def drawn(generators: list[torch.Generator]) -> Tensor:
    size = (1, 3, tiny.SIZE, tiny.SIZE)
    return torch.cat([torch.randn(size, generator=generator) for generator in generators]).double()


def expected(
    pipe: Any,
    times: list[int],
    *,
    ddim: bool,
    eta: float = 0.0,
    pag_scale: float = 0.0,
    classifier_scale: float = 0.0,
    class_labels: list[int] | None = None,
) -> Tensor:
    """The samples that the formulas give, of the same network in double precision."""
    process = Diffusion(times)
    network, classifier = copy.deepcopy(pipe.unet).double(), copy.deepcopy(pipe.classifier)
    generators = seeds()
    noisy = drawn(generators)
    labels = None if class_labels is None else torch.tensor(class_labels)
    given = {"class_labels": labels} if network.config.num_class_embeds else {}
    for index in reversed(range(len(times))):
        time = torch.tensor(times[index])
        with torch.no_grad():
            predicted: Tensor = network(noisy, time, **given).sample
            if pag_scale:
                with reference.perturbed(network, [LAYER]):
                    worse: Tensor = network(noisy, time, **given).sample
                predicted[:, :3] += pag_scale * (predicted - worse)[:, :3]
        gradient = None
        if classifier_scale:
            assert labels is not None
            seen = noisy.clone().requires_grad_()
            logits = classifier.double()(seen, time.expand(2))
            chosen = logits.log_softmax(1)[torch.arange(2), labels].sum()
            gradient = classifier_scale * torch.autograd.grad(chosen, seen)[0]
        if ddim:
            noisy = process.ddim(index, noisy, predicted, lambda: drawn(generators), gradient, eta)
        else:
            noisy = process.ddpm(index, noisy, predicted, lambda: drawn(generators), gradient)
    return noisy


def check(pipe: Any, times: list[int], call: Any = None, **settings: Any) -> Tensor:
    """Compare, and return the samples."""
    steps = {"num_inference_steps": len(times)} if call is None else call
    is_ddim = "DDIM" in type(pipe.scheduler).__name__
    shared: dict[str, Any] = {"pag_scale": 0.0} | settings
    images = {} if settings.get("class_labels") else {"num_images": 2}
    got = pipe(**steps, **shared, **images, generator=seeds(), output_type="latent").images
    torch.testing.assert_close(got.double(), expected(pipe, times, ddim=is_ddim, **shared), atol=BOUND, rtol=0.0)
    return got


@pytest.mark.parametrize("count", [1, 2, 7, 25, 250, 999])
def test_the_timesteps_of_250_are_evenly_spaced_and_rounded(count: int):
    scheduler = ddpm()
    scheduler.set_timesteps(count)
    assert scheduler.timesteps.tolist() == even(count)[::-1]


def test_the_timesteps_of_ddim25_are_multiples_of_40():
    scheduler = ddim()
    scheduler.set_timesteps(25)
    assert scheduler.timesteps.tolist() == strided(25)[::-1] == list(range(960, -1, -40))


@pytest.mark.parametrize("pag_scale", [0.0, 3.0])
@pytest.mark.parametrize("classes", [None, tiny.CLASSES])
def test_ddim25(classes: int | None, pag_scale: float):
    labels: dict[str, Any] = {"class_labels": LABELS} if classes else {}
    check(made(ddim(), classes), strided(25), pag_scale=pag_scale, **labels)


@pytest.mark.parametrize("pag_scale", [0.0, 1.0])
def test_ddpm250(pag_scale: float):
    check(made(ddpm()), even(250), pag_scale=pag_scale)


def test_ddpm_of_a_class():
    check(made(ddpm(), tiny.CLASSES), even(10), pag_scale=1.0, class_labels=LABELS)


def test_the_learned_variance_is_the_unperturbed_one():
    pipe = made(ddpm())
    with torch.no_grad():  # variances that vary, so that another one would be seen
        pipe.unet.conv_out.weight[3:] *= 5
    check(pipe, even(10), pag_scale=3.0)


def test_the_image_is_clamped_and_ddims_noise_is_that_of_the_clamped_one():
    pipe = made(ddim())
    with torch.no_grad():
        pipe.unet.conv_out.weight *= 3
    clamped = check(pipe, strided(5))
    pipe.scheduler = ddim(clip_sample=False)
    free = pipe(num_images=2, num_inference_steps=5, pag_scale=0.0, generator=seeds(), output_type="latent").images
    assert (free - clamped).abs().max() > 0.1


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise(eta: float):
    check(made(ddim()), strided(10), eta=eta, pag_scale=1.0)


@pytest.mark.parametrize("scheduler", [ddim(DDIMParallelScheduler), ddpm(DDPMParallelScheduler)])
def test_the_parallel_schedulers(scheduler: Any):
    times = strided(10) if "DDIM" in type(scheduler).__name__ else even(10)
    check(made(scheduler), times)


@pytest.mark.parametrize("scheduler", [ddim(), ddpm()])
def test_timesteps_by_sections(scheduler: Any):
    times = sections([6, 4])
    check(made(scheduler), times, {"timesteps": times[::-1]}, eta=1.0 if "DDIM" in type(scheduler).__name__ else 0.0)


@pytest.mark.parametrize("scheduler", [ddim(), ddpm()])
def test_the_last_step_is_certain_wherever_it_is(scheduler: Any):
    """diffusers' DDPM adds noise to the clean image unless the last timestep is 0."""
    times = [100, 350, 600]
    check(made(scheduler), times, {"timesteps": times[::-1]})


def test_ddim_of_rounded_timesteps():
    """diffusers' DDIM goes the same way down from each timestep, past the next one where they are not even."""
    check(made(ddim(timestep_spacing="linspace")), even(30), eta=1.0)


@pytest.mark.parametrize("scheduler", [ddim(), ddpm()])
@pytest.mark.parametrize("pag_scale", [0.0, 2.0])
@pytest.mark.parametrize("classes", [None, tiny.CLASSES])
def test_classifier_guidance(scheduler: Any, pag_scale: float, classes: int | None):
    pipe = made(scheduler, classes, tiny.Classifier())
    times = strided(10) if "DDIM" in type(scheduler).__name__ else even(10)
    run: dict[str, Any] = {"class_labels": LABELS, "pag_scale": pag_scale}
    guided = check(pipe, times, classifier_scale=30.0, **run)
    if classes:
        plain = check(pipe, times, **run)
        assert (guided - plain).abs().max() > 0.05


def test_classifier_guidance_makes_the_class_more_probable():
    pipe = made(ddim(), None, tiny.Classifier())
    run: dict[str, Any] = {"class_labels": LABELS, "num_inference_steps": 10, "output_type": "latent"}

    def probability(scale: float) -> Tensor:
        images = pipe(**run, classifier_scale=scale, pag_scale=0.0, generator=seeds()).images
        with torch.no_grad():
            return pipe.classifier(images, torch.zeros(2)).softmax(1)[torch.arange(2), torch.tensor(LABELS)]

    assert (probability(30.0) > probability(1e-9)).all()
