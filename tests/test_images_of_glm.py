"""GLM-Image keeps keys and values of images that are conditions by prompt: rows of one prompt only can be added."""

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache

import pag
from tests.denoisers import NETWORKS
from tests.test_denoisers import Step, step_arguments

NETWORK = NETWORKS["glm-image"]


def kept(prompts: int) -> GlmImageKVCache:
    """What images of that many prompts leave."""
    caches = GlmImageKVCache(3)
    caches.set_mode("write")
    given: dict[str, Any] = NETWORK.arguments(1)
    text = given["encoder_hidden_states"][:, :0]
    for _ in range(prompts):
        with torch.no_grad():
            NETWORK.model()(**(given | {"encoder_hidden_states": text, "kv_caches": caches}))
        caches.next_sample()
    caches.set_mode("read")
    return caches


def test_images_of_several_prompts_are_refused():
    step, path = Step(NETWORK.model(), 0.0), NETWORK.paths[0]
    given = step_arguments(NETWORK, 0.0, 2)
    with pag.guide(step, 3.0, layers=path):
        step(NETWORK, given | {"kv_caches": kept(1)})
        with pytest.raises(ValueError, match="Call the pipeline once for each prompt"):
            step(NETWORK, given | {"kv_caches": kept(2)})
    step(NETWORK, given | {"kv_caches": kept(2)})
