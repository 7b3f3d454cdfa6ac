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


class TestAReplacedNetwork:
    @pytest.fixture
    def pipe(self) -> Any:
        return RUNS["FluxPipeline"].make()

    def guided(self, pipe: Any, network: Any, error: Exception | None = None) -> None:
        with pag.guide(pipe, S):
            pipe.transformer = network
            if error is not None:
                raise error

    def test_it_is_no_silent_plain_run(self, pipe: Any):
        with pytest.raises(RuntimeError, match="The pipeline's transformer was replaced while guidance was attached"):
            self.guided(pipe, copy.deepcopy(pipe.transformer))

    def test_it_hides_no_other_error(self, pipe: Any):
        with pytest.raises(ZeroDivisionError):
            self.guided(pipe, copy.deepcopy(pipe.transformer), ZeroDivisionError())

    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
    def test_it_may_be_let_go_or_compiled(self, pipe: Any):
        self.guided(pipe, torch.compile(pipe.transformer))
        self.guided(pipe, None)


def test_what_is_shown_of_a_guide_does_not_need_its_cost():
    pipe = RUNS["Lumina2Pipeline"].make()
    guide = pag.guide(pipe, S)
    with pytest.raises(RuntimeError, match="cannot be counted"):
        _ = guide.cost
    assert repr(guide) == str(guide)
