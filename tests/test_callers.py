"""What users pass to pipelines, and what they do to them between the steps: the formula holds all the same."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "WanPipeline"])
def test_threads_may_share_a_guided_network(name: str):
    """Each with a pipeline and a scheduler of its own, as diffusers asks for."""
    run = RUNS[name]
    pipe = run.make()
    pipe.set_progress_bar_config(disable=True)
    pipes = [pipe, copy.copy(pipe)]
    pipes[1].scheduler = copy.deepcopy(pipe.scheduler)

    def samples(pipe: Any) -> list[Any]:
        return [sample(pipe) for _ in range(4)]

    def sample(pipe: Any) -> Any:
        given = {"return_dict": False, "num_inference_steps": 2, "output_type": "latent"} | run.arguments()
        return run.output(pipe(**given | {"generator": torch.Generator().manual_seed(0)}))

    with pag.guide(pipe, S, layers=run.path):
        expected = sample(pipe)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(samples, pipes))
    assert all(result.equal(expected) for each in results for result in each)
