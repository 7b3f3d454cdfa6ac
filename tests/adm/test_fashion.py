"""The small trained ADM of `recipes/fashion`: what it draws is clothes."""

from pathlib import Path
from typing import Any

import pytest
import torch

import pag

MODELS = Path(__file__).parents[2] / "recipes" / "fashion" / "model"


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = pag.ADMPipeline.from_pretrained(MODELS / "conditional")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_trousers_are_two_legs_and_shoes_are_low(pipe: Any, scale: float) -> None:
    seeds = [torch.Generator().manual_seed(seed) for seed in range(8)]
    labels = ["trousers"] * 4 + ["sneaker"] * 4
    images = pipe(class_labels=labels, num_inference_steps=8, pag_scale=scale, generator=seeds, output_type="pt").images
    trousers, sneakers = images.mean(1).split(4)
    columns = trousers[:, 20:28].mean((0, 1))
    assert columns[12:20].min() < 0.6 * columns.max()  # a gap between the legs
    assert columns[:6].max() < 0.6 * columns.max()  # and little beside them
    assert sneakers[:, :8].mean() < 0.5 * sneakers[:, 14:22].mean()


def test_without_classes_the_border_is_black() -> None:
    pipe: Any = pag.ADMPipeline.from_pretrained(MODELS / "unconditional")
    pipe.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(8)]
    images = pipe(num_images=8, num_inference_steps=8, generator=seeds, output_type="pt").images
    assert images[..., :2, :].mean() < 0.1 < images[..., 8:24, 8:24].mean()
