"""Keys and values that a pipeline keeps from step to step hold its own rows, whichever steps are guided."""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2KVCache
from torch import Tensor

import pag
from tests import zoo
from tests.runs import RUNS, Run, guided

S = 3.0
RUN = RUNS["Flux2KleinKVPipeline"]
STEPS = 4
EVERY_INTERVAL = [(0, 4), (0, 1), (0, 2), (1, 4), (2, 3)]
"""First guided step, and first one that is not guided any more."""


def by_hand(run: Run, pipe: Any, first: int, last: int) -> Tensor:
    """The formula in some of the steps."""
    with ExitStack() as stack:

        def switch(_pipe: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step + 1 == last:
                stack.close()
            elif step + 1 == first:
                stack.enter_context(guided(run, pipe, S))
            return tensors

        if first == 0:
            stack.enter_context(guided(run, pipe, S))
        return run.sample(pipe, num_inference_steps=STEPS, callback_on_step_end=switch)


def progress_of(pipe: Any, step: int) -> float:
    """Between the progress at a step and that before it."""
    times = [*(1 - pipe.scheduler.timesteps / 1000).tolist(), 1.0]
    return 0.0 if step == 0 else 1.0 if step == STEPS else (times[step - 1] + times[step]) / 2


@pytest.mark.parametrize("name", ["Flux2KleinKVPipeline", "QwenImage21Pipeline: edit"])
@pytest.mark.parametrize(("first", "last"), EVERY_INTERVAL)
@pytest.mark.parametrize("share_rows", [True, False])
def test_some_steps_are_guided(name: str, first: int, last: int, share_rows: bool):
    run = RUNS[name]
    pipe = run.make()
    plain = run.sample(pipe, num_inference_steps=STEPS)
    expected = by_hand(run, pipe, first, last)
    start, stop = progress_of(pipe, first), progress_of(pipe, last)
    with pag.guide(pipe, S, layers=run.path, share_rows=share_rows, start=start, stop=stop):
        assert zoo.difference(run.sample(pipe, num_inference_steps=STEPS), expected) <= run.tolerance
    assert zoo.difference(expected, plain) > 10 * run.tolerance


def test_what_is_kept_is_of_the_pipelines_own_rows(monkeypatch: pytest.MonkeyPatch):
    pipe = RUN.make()
    rows: set[int] = set()

    def look(cache: Any) -> None:
        """The pipeline empties it at last."""
        layers = [*cache.double_block_caches, *cache.single_block_caches]
        rows.update(tensor.shape[0] for layer in layers for tensor in (layer.k_ref, layer.v_ref))

    monkeypatch.setattr(Flux2KVCache, "clear", look)
    with pag.guide(pipe, S, layers=RUN.path):
        RUN.sample(pipe)
    assert rows == {1}


def test_an_error_leaves_it_as_it_was():
    pipe = RUN.make()
    caches: list[Any] = []

    def fail(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("kv_cache_mode") == "cached":
            caches.append(kwargs["kv_cache"])
            raise torch.OutOfMemoryError("no memory")

    block = pipe.transformer.transformer_blocks[-1].attn
    block.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(torch.OutOfMemoryError), pag.guide(pipe, S, layers=RUN.path):
        RUN.sample(pipe)
    assert caches[0].k_ref.shape[0] == 1
