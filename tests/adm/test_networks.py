"""Converted networks compute what the published architecture defines."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

import pag
from pag.adm.build import build
from pag.adm.layout import read_layout
from pag.adm.published import PUBLISHED, Settings, settings_of
from pag.generate import UserError
from tests.adm import reference

SIZE, CLASSES, TOLERANCE = 16, 7, 1e-5
TINY: dict[str, Any] = {
    "model_channels": 32,
    "multipliers": (1, 2),
    "res_blocks": 1,
    "attention": (2,),
    "head_channels": 16,
}


def unet(**given: Any) -> nn.Module:
    return reference.UNet(**(TINY | given))


UNETS: dict[str, tuple[dict[str, Any], type]] = {
    "legacy order": ({}, UNet2DModel),
    "new order": ({"new_order": True}, UNet2DModel),
    "conditional": ({"classes": CLASSES}, UNet2DModel),
    "fixed variance": ({"out_channels": 3}, UNet2DModel),
    "heads, one width": ({"heads": 2, "head_channels": None}, UNet2DModel),
    "heads, many widths": ({"heads": 4, "head_channels": None, "attention": (1, 2)}, pag.ADMUNet),
    "heads, many widths, new order": (
        {"heads": 4, "head_channels": None, "attention": (1, 2), "new_order": True},
        pag.ADMUNet,
    ),
    "all levels": ({"multipliers": (1, 1, 2), "attention": (1, 2, 4), "res_blocks": 2}, UNet2DModel),
    "one level": ({"multipliers": (1,), "attention": (1,)}, UNet2DModel),
    "no attention but the middle's": ({"attention": ()}, UNet2DModel),
    "three blocks": ({"res_blocks": 3}, UNet2DModel),
    "first level narrow": ({"model_channels": 64, "multipliers": (0.5, 1, 1)}, pag.ADMUNet),
    "upsampler": ({"in_channels": 6, "classes": CLASSES}, pag.ADMUNet),
    "convolutions up and down": ({"resblock_updown": False, "multipliers": (1, 2, 2)}, UNet2DModel),
    "time is added": ({"scale_shift": False}, UNet2DModel),
    "as improved-diffusion's": (
        {"heads": 4, "head_channels": None, "attention": (1, 2), "resblock_updown": False},
        pag.ADMUNet,
    ),
}
"""Small networks of the architecture, and the class that they are converted to."""


def strong(network: nn.Module) -> nn.Module:
    """Weights of which each is seen in the output."""
    for name, parameter in network.named_parameters():
        matrix = parameter.ndim > 1
        nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5 if matrix else 0.2)
        if not matrix and "weight" in name:
            parameter.data += 1
    return network.eval().requires_grad_(False)


def settings(given: dict[str, Any]) -> Settings:
    heads = {"heads": given.get("heads"), "head_channels": given.get("head_channels", 16)}
    return Settings(SIZE, **heads, order="new" if given.get("new_order") else "legacy", schedule="linear")


def convert(network: nn.Module, chosen: Settings) -> Any:
    weights = network.state_dict()
    return build(weights, read_layout({name: tuple(weight.shape) for name, weight in weights.items()}), chosen)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def inputs(channels: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(1)
    sample = torch.randn(3, channels, SIZE, SIZE, generator=noise)
    return sample, torch.tensor([3, 500, 999]), torch.randint(CLASSES, (3,), generator=noise)


@pytest.mark.parametrize("name", UNETS)
def test_a_u_net_predicts_as_the_published_one_does(name: str):
    given, kind = UNETS[name]
    torch.manual_seed(0)
    theirs: Any = strong(unet(**given))
    ours = convert(theirs, settings(given))
    assert type(ours) is kind
    sample, times, labels = inputs(given.get("in_channels", 3))
    known = labels if "classes" in given else None
    wanted = theirs(sample, times, known)
    assert distance(ours(sample, times, class_labels=known).sample, wanted) <= TOLERANCE
    if known is not None:
        assert distance(ours(sample, times, class_labels=(labels + 1) % CLASSES).sample, wanted) > 0.01
    assert distance(ours(sample, times + 1, class_labels=known).sample, wanted) > 1e-4


@pytest.mark.parametrize("given", [{}, {"new_order": True}, {"classes": CLASSES}], ids=["legacy", "new", "classes"])
def test_perturbed_attention_is_the_published_one_s(given: dict[str, Any]):
    torch.manual_seed(0)
    theirs: Any = strong(unet(**given))
    ours = convert(theirs, settings(given))
    sample, times, labels = inputs()
    known = labels if given.get("classes") else None
    plain = theirs(sample, times, known)
    theirs.middle_block[1].perturbed = True
    delta = plain - theirs(sample, times, known)
    assert float(delta[:, :3].abs().max()) > 0.01
    with pag.guide(SimpleNamespace(unet=ours), scale=2.0, layers="mid"):
        guided = ours(sample, times, class_labels=known).sample
    assert distance(guided[:, :3], (plain + 2 * delta)[:, :3]) <= TOLERANCE
    assert distance(guided[:, 3:], plain[:, 3:]) <= TOLERANCE


def test_the_orders_of_queries_keys_and_values_differ():
    torch.manual_seed(0)
    theirs: Any = strong(unet())
    sample, times, _ = inputs()
    wrong = convert(theirs, settings({"new_order": True}))
    assert distance(wrong(sample, times).sample, theirs(sample, times)) > 0.01


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "as published": {},
    "convolutions down": {"resblock_updown": False},
    "new order": {"new_order": True},
    "time is added": {"scale_shift": False},
    "first level narrow": {"model_channels": 64, "multipliers": (0.5, 1, 1)},
    "deep": {"res_blocks": 4},
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_as_the_published_one_does(name: str):
    given: dict[str, Any] = TINY | {"multipliers": (1, 1, 2), "res_blocks": 2, "attention": (2, 4)} | CLASSIFIERS[name]
    torch.manual_seed(0)
    theirs: Any = strong(reference.Classifier(size=SIZE, classes=CLASSES, **given))
    ours = convert(theirs, settings(CLASSIFIERS[name]))
    assert type(ours) is pag.ADMClassifier
    sample, times, labels = inputs()
    wanted = theirs(sample, times)
    assert distance(ours(sample, times), wanted) <= TOLERANCE
    assert distance(ours(sample, 500)[1], wanted[1]) <= TOLERANCE
    assert distance(ours(sample, times.flip(0)), wanted) > 0.01
    gradients = [_gradient(network, sample, times, labels) for network in (ours, theirs)]
    assert distance(*gradients) <= TOLERANCE


def _gradient(classifier: Any, sample: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    noisy = sample.clone().requires_grad_()
    logs = classifier(noisy, times).log_softmax(-1)
    return torch.autograd.grad(logs[range(len(labels)), labels].sum(), noisy)[0]


MILLIONS = {
    "64x64_diffusion.pt": 296,
    "128x128_diffusion.pt": 422,
    "256x256_diffusion.pt": 554,
    "256x256_diffusion_uncond.pt": 553,
    "512x512_diffusion.pt": 559,
    "64_256_upsampler.pt": 312,
    "128_512_upsampler.pt": 309,
    "64x64_classifier.pt": 65,
    "128x128_classifier.pt": 43,
    "256x256_classifier.pt": 54,
    "512x512_classifier.pt": 54,
}
"""Parameters by arXiv 2105.05233: tables of its appendix on the models and on their computation."""


@pytest.mark.parametrize("name", MILLIONS)
def test_the_full_size_layout_is_recognized_by_its_names_and_shapes(name: str):
    published = next(one for one in PUBLISHED if name in one.files)
    with torch.device("meta"):
        weights = reference.published(name).state_dict()
    layout = read_layout({key: tuple(weight.shape) for key, weight in weights.items()})
    assert layout == published.layout
    assert settings_of(layout) == published.settings
    network = build(weights, layout, published.settings)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == MILLIONS[name]
    assert network.config.sample_size == published.settings.image_size
    with torch.device("meta"):
        again = type(network).from_config(network.config)
    assert {name: weight.shape for name, weight in again.state_dict().items()} == {
        name: weight.shape for name, weight in network.state_dict().items()
    }


def test_every_published_checkpoint_is_covered():
    assert len({one.layout for one in PUBLISHED}) == len(PUBLISHED)
    assert set(MILLIONS) <= {file for one in PUBLISHED for file in one.files}


def test_what_the_weights_do_not_tell_is_asked_for_by_its_options():
    layout = read_layout({name: tuple(weight.shape) for name, weight in unet().state_dict().items()})
    options = "--image-size, --heads or --head-channels, --attention-order, --noise-schedule"
    with pytest.raises(UserError, match=options):
        settings_of(layout)
    with pytest.raises(UserError, match="say --attention-order, as"):
        settings_of(layout, Settings(SIZE, heads=2, schedule="linear"))
    assert settings_of(layout, settings({})) == settings({})


def test_options_come_before_what_is_published():
    known = next(one for one in PUBLISHED if "256x256_diffusion.pt" in one.files)
    assert settings_of(known.layout, Settings(schedule="cosine", heads=8)) == Settings(256, 8, None, "legacy", "cosine")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": (1, 2, 3, 3)}, "of another: model.diffusion_model"),
        ({}, "none"),
    ],
)
def test_another_model_s_weights_are_told_apart(wrong: dict[str, tuple[int, ...]], message: str):
    with pytest.raises(UserError, match=message):
        read_layout(wrong)


def _shapes(**given: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in unet(**given).state_dict().items()}


def test_missing_blocks_are_told():
    shapes = {name: shape for name, shape in _shapes().items() if not name.startswith("output_blocks.1")}
    with pytest.raises(UserError, match="no model has such blocks"):
        read_layout(shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("out.2.bias"), "conv_out.bias is missing"),
        (lambda weights: weights.update({"extra.weight": torch.zeros(1)}), "extra.weight is no weight"),
        (
            lambda weights: weights.update({"out.2.bias": torch.zeros(5)}),
            r"conv_out.bias is of shape \(5,\), not \(6,\)",
        ),
    ],
)
def test_weights_that_are_not_all_of_one_model_are_told(change: Any, message: str):
    weights = unet().state_dict()
    layout = read_layout(_shapes())
    change(weights)
    with pytest.raises(UserError, match=message):
        build(weights, layout, settings({}))


def test_widths_that_heads_do_not_divide_are_told():
    weights = unet().state_dict()
    with pytest.raises(UserError, match="64 channels of an attention layer are not divisible into 3 heads"):
        build(weights, read_layout(_shapes()), Settings(SIZE, heads=3, order="legacy"))


def test_a_classifier_that_pools_in_another_way_is_refused():
    shapes = {name: shape for name, shape in _shapes().items() if "output_blocks" not in name}
    with pytest.raises(UserError, match="does not pool by attention"):
        read_layout(shapes)
