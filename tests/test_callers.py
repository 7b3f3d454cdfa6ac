"""What users pass to pipelines, and what they do to them between the steps: the formula holds all the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pag
from tests import zoo
from tests.runs import RUNS

S = 3.0

NUMBERS: dict[str, Callable[[float], Any]] = {
    "NumPy's": np.float32,
    "an integer": int,
    "a tensor": torch.tensor,
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["QwenImagePipeline", "WanPipeline"])
def test_the_scale_of_cfg_may_be_any_number(name: str, number: str):
    run = RUNS[name]
    pipe, key = run.make(), "true_cfg_scale" if "Qwen" in name else "guidance_scale"
    with pag.guide(pipe, S, layers=run.path):
        expected = run.sample(pipe, **{key: 4.0})
        ours = run.sample(pipe, **{key: NUMBERS[number](4.0)})
    assert zoo.difference(ours, expected) <= run.tolerance
