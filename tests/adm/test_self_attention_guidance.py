"""Whole runs of ADM with self-attention guidance against its formula, in double precision, without any scheduler."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import pag
from tests import degraded
from tests.adm import tiny
from tests.adm.diffusion import Diffusion, even, strided
from tests.adm.test_sampling import BOUND, LABELS, ddim, ddpm, drawn, made, seeds

LAYER, GRID, S = "mid_block.attentions.0", 4, 0.5


def expected(pipe: Any, times: list[int], labels: list[int] | None, *, is_ddim: bool) -> Tensor:
    """``e + s·(e − ê)``, with ``ê`` predicted from the blurred image and the predicted noise."""
    process, network, generators = Diffusion(times), copy.deepcopy(pipe.unet).double(), seeds()
    given = {} if labels is None else {"class_labels": torch.tensor(labels)}
    noisy = drawn(generators)
    for index in reversed(range(len(times))):
        time = torch.tensor(times[index])
        with torch.no_grad(), degraded.looking(network, LAYER) as maps:
            predicted: Tensor = network(noisy, time, **given).sample
            noise = predicted[:, :3]
            image = degraded.blurred(process.image(index, noisy, noise), maps[0], GRID)
            bar = process.bar[index]
            worse = network(bar.sqrt() * image + (1 - bar).sqrt() * noise, time, **given).sample
        predicted[:, :3] += S * (noise - worse[:, :3])
        step = process.ddim if is_ddim else process.ddpm
        noisy = step(index, noisy, predicted, lambda: drawn(generators))
    return noisy


@pytest.mark.parametrize("classes", [None, tiny.CLASSES], ids=["unconditional", "classes"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_run_gives_the_formula(sampler: str, classes: int | None):
    """The mean alone is guided: DDPM takes the variance of the plain prediction."""
    is_ddim, labels = sampler == "ddim", LABELS if classes else None
    pipe = made(ddim() if is_ddim else ddpm(), classes)
    with torch.no_grad():  # variances that vary, so that another one would be seen
        pipe.unet.conv_out.weight[3:] *= 5
    times = strided(4) if is_ddim else even(4)
    call: dict[str, Any] = {"num_inference_steps": len(times), "pag_scale": 0.0, "output_type": "latent"}
    call |= {"class_labels": labels} if classes else {"num_images": 2}
    with pag.guide(pipe, S, perturbation="sag"):
        got = pipe(**call, generator=seeds()).images
    formula = expected(pipe, times, labels, is_ddim=is_ddim)
    torch.testing.assert_close(got.double(), formula, atol=BOUND, rtol=0.0)
    assert (pipe(**call, generator=seeds()).images - got).abs().max() > 100 * BOUND
