"""Where diffusers' own guider of perturbed attention is wrong, and ours is right.

Each of its faults is pinned as it is today: a test that fails here tells that diffusers has mended it.
"""

import os
import subprocess
import sys
from typing import Any

import pytest
from diffusers.guiders import BaseGuidance, ClassifierFreeGuidance, PerturbedAttentionGuidance
from diffusers.hooks import LayerSkipConfig

from pag import PerturbedAttentionGuider
from tests import zoo
from tests.modular import RUNS, Formula

G, S = 4.0, 3.0
SDXL, QWEN, SD3 = (RUNS[f"{name}AutoBlocks"] for name in ("StableDiffusionXL", "QwenImage", "StableDiffusion3"))


def theirs(indices: list[int], fqn: str = "transformer_blocks", g: float = G, **settings: Any) -> BaseGuidance:
    """diffusers' guider, on during the whole run as far as it can be."""
    config = LayerSkipConfig(indices, fqn=fqn, skip_attention=False, skip_attention_scores=True, skip_ff=False)
    interval: dict[str, Any] = {"perturbed_guidance_start": 0.0, "perturbed_guidance_stop": 1.0}
    return PerturbedAttentionGuidance(g, S, perturbed_guidance_config=config, **(interval | settings))


def sdxl(g: float = G, **settings: Any) -> BaseGuidance:
    return theirs([0], "mid_block.attentions.0.transformer_blocks", g, **settings)


def but_for_the_first(step: int, timestep: float) -> float:
    return S if step > 0 else 0.0


def test_on_a_u_net_with_cfg_both_agree_but_for_the_first_step():
    pipe = SDXL.make()
    expected = SDXL.sample(pipe, Formula(SDXL, G, but_for_the_first))
    assert zoo.difference(SDXL.sample(pipe, sdxl()), expected) <= 1e-4
    ours = PerturbedAttentionGuider(G, S, SDXL.path, pag_start=0.1)
    assert zoo.difference(SDXL.sample(pipe, ours), expected) <= 1e-4


def test_the_first_step_is_guided():
    pipe = SDXL.make()
    first = {"num_inference_steps": 1}
    expected = SDXL.sample(pipe, Formula(SDXL, G, S), **first)
    assert zoo.difference(SDXL.sample(pipe, PerturbedAttentionGuider(G, S, SDXL.path), **first), expected) <= 1e-4
    assert SDXL.sample(pipe, sdxl(), **first).equal(SDXL.sample(pipe, ClassifierFreeGuidance(G), **first))


def test_without_cfg_the_prompt_is_compared_with_its_perturbation():
    """And not with the negative prompt, which is CFG with the scale of PAG."""
    pipe = SDXL.make()
    expected = SDXL.sample(pipe, Formula(SDXL, None, S))
    assert zoo.difference(SDXL.sample(pipe, PerturbedAttentionGuider(1.0, S, SDXL.path)), expected) <= 1e-4
    assert SDXL.sample(pipe, sdxl(1.0)).equal(SDXL.sample(pipe, _CfgButForTheFirst(S)))


class _CfgButForTheFirst(ClassifierFreeGuidance):
    """What diffusers' guider is without CFG: classifier-free guidance, only later."""

    def _is_cfg_enabled(self) -> bool:
        return bool(self._step)


def test_a_layer_is_named_by_its_index():
    pipe = SD3.make()
    expected = SD3.sample(pipe, Formula(SD3, G, S))
    assert zoo.difference(SD3.sample(pipe, PerturbedAttentionGuider(G, S, 1)), expected) <= 1e-4
    number = PerturbedAttentionGuidance(G, S, 0.0, 1.0, perturbed_guidance_layers=1)
    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)"):
        SD3.sample(pipe, number)


FOREIGN: dict[str, tuple[type[Exception], str]] = {
    "StableDiffusion3AutoBlocks": (ValueError, "not registered"),
    "WanBlocks": (ValueError, "not registered"),
    "HunyuanVideo15AutoBlocks": (ValueError, "not registered"),
    "AnimaAutoBlocks": (ValueError, "not registered"),
    "Flux2KleinBaseAutoBlocks": (AttributeError, "is_cross_attention"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_that_theirs_does_not_know(name: str):
    """Ours does: see the runs of `tests.test_guider`."""
    run, (kind, message) = RUNS[name], FOREIGN[name]
    fqn = run.path.split(".")[0]
    with pytest.raises(kind, match=message):
        run.sample(run.make(), theirs([1], fqn))


def test_in_joint_attention_the_text_goes_on_attending():
    """Theirs takes the identity for all tokens, those of the text too."""
    pipe = QWEN.make()
    expected = QWEN.sample(pipe, Formula(QWEN, G, but_for_the_first))
    ours = PerturbedAttentionGuider(G, S, QWEN.path, pag_start=0.1)
    assert zoo.difference(QWEN.sample(pipe, ours), expected) <= 1e-4
    assert zoo.difference(QWEN.sample(pipe, theirs([1])), expected) > 1e-3


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_other_attention_backends():
    """Theirs does nothing at all, at the cost of a third call."""
    pipe = QWEN.make()
    expected = QWEN.sample(pipe, Formula(QWEN, G, S))
    pipe.transformer.set_attention_backend("flex")
    plain = QWEN.sample(pipe, ClassifierFreeGuidance(G))
    assert QWEN.sample(pipe, theirs([1])).equal(plain)
    assert zoo.difference(QWEN.sample(pipe, PerturbedAttentionGuider(G, S, QWEN.path)), expected) <= 1e-3


def test_after_an_exception():
    """The hooks of theirs stay, and the next run cannot begin. Ours is in `tests.test_guider`."""
    pipe, guider = SDXL.make(), sdxl()
    block = pipe.unet.up_blocks[0]
    plain, calls = block.forward, [0]

    def raising(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:  # the perturbed call of the second step
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    block.forward = raising
    with pytest.raises(KeyboardInterrupt):
        SDXL.sample(pipe, guider)
    with pytest.raises(ValueError, match="already exists"):
        SDXL.sample(pipe, guider)


@pytest.mark.slow  # starts Python twice for each
@pytest.mark.parametrize("guider", ["theirs", "ours"])
def test_the_layer_does_not_depend_on_the_seed_of_hashes(guider: str):
    code = {
        "theirs": "from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS as names; print(names)",
        "ours": "import pag, tests.conftest; from tests.denoisers import NETWORKS; "
        "model = NETWORKS['flux'].model(); print(pag.families.family_of(model).recommended(model))",
    }[guider]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert (len(seen) == 1) == (guider == "ours")
