"""The identity within each frame of a video: it gives what a dense mask gives that leaves other frames alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import pag
from pag.perturbations import Attend, Tokens
from pag.perturbations.identity import frame_identity
from tests import masked
from tests.denoisers import NETWORKS, Network
from tests.test_denoisers import S, Step, difference, predictions, rows_of, step_arguments

VIDEOS = [name for name, network in NETWORKS.items() if network.frames is not None]


def expected(network: Network, path: str, given: dict[str, Any], frames: int | None) -> list[torch.Tensor]:
    model = network.model()
    with torch.no_grad():
        plain = predictions(network, model(**given))
        with masked.perturbed(model, path, network.image_at(path), frames):
            worse = predictions(network, model(**given))
    return [c + S * (c - p) for c, p in zip(plain, worse, strict=True)]


@pytest.mark.parametrize("name", VIDEOS)
def test_within_frames_other_frames_are_attended_to(name: str):
    network = NETWORKS[name]
    path = network.paths[-1]
    step, given = Step(network.model(), 0.0), step_arguments(network, 0.0, rows_of(network, path))
    with pag.guide(step, S, layers=path, perturbation="frame_identity"):
        result = step(network, given)
    assert difference(result, expected(network, path, given, network.frames)) <= 1e-5
    assert difference(result, expected(network, path, given, None)) > 1e-4


@pytest.mark.parametrize(("frames", "count"), [(5, "5"), (0, "any")])
def test_frames_of_unequal_size_are_refused(frames: int, count: str):
    q = torch.zeros(1, 1, 12, 4)
    tokens = Tokens(slice(0, 12), slice(0, 12), frames=frames)
    with pytest.raises(ValueError, match=f"12 tokens are not {count} of them"):
        frame_identity(q, q, q, Attend(F.scaled_dot_product_attention), tokens)
