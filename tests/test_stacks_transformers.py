"""Guidance on top of what else diffusers can do to transformers of images: it works, or refuses clearly."""

from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from torch import Tensor, nn

import pag
from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs import RUNS, guided
from tests.test_denoisers import G, S, Step, difference, separate, step_arguments

FUSED = ("sd3", "flux", "flux2", "flux3", "aura_flow", "chroma", "long_cat_image")
"""Whose own class can do it. (diffusers' processor for Stable Diffusion 3.5 fails at dual blocks.)"""


def check(name: str, model: nn.Module, **more: Any) -> list[Tensor]:
    """A guided call at each of the layers gives the formula from separate forwards of the same network."""
    network, results = NETWORKS[name], list[Tensor]()
    given = step_arguments(network, G, 2) | more
    for path in network.paths:
        with torch.no_grad():
            u, c, p = separate(network, model, G, path, given)
        expected = [a + G * (b - a) + S * (b - d) for a, b, d in zip(u, c, p, strict=True)]
        step = Step(model, G)
        with pag.guide(step, S, layers=path):
            guided = step(network, given)
        assert difference(guided, expected) <= 1e-5, path
        assert difference(guided, step(network, given)) > 1e-4, path
        results += guided
    return results


@pytest.mark.parametrize("name", FUSED)
def test_fused_projections(name: str):
    model: Any = strong(NETWORKS[name].make)
    separate_projections = check(name, model)
    model.fuse_qkv_projections()
    assert difference(check(name, model), separate_projections) <= 1e-5


@pytest.mark.parametrize("name", ["sd3", "flux", "flux2"])
def test_lora(name: str):
    peft = pytest.importorskip("peft")
    model: Any = strong(NETWORKS[name].make)
    plain = check(name, model)
    torch.manual_seed(0)
    model.add_adapter(
        peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    )
    whole = check(name, model)
    half = check(name, model, joint_attention_kwargs={"scale": 0.5})
    assert difference(whole, plain) > 1e-3
    assert difference(half, whole) > 1e-3
    model.disable_adapters()
    assert difference(check(name, model), plain) <= 1e-5


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "Flux2KleinPipeline"])
def test_group_offload(name: str, offload_type: str):
    run = RUNS[name]
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path):
        expected = run.sample(pipe)
    device = torch.device("cpu")
    blocks: Any = {"num_blocks_per_group": 1} if offload_type == "block_level" else {}
    pipe.transformer.enable_group_offload(device, device, offload_type=offload_type, **blocks)
    with pag.guide(pipe, S, layers=run.path):
        for _ in range(2):
            assert zoo.difference(run.sample(pipe), expected) <= 1e-5


SEVERAL = (
    "StableDiffusion3Pipeline",
    "StableDiffusion3Pipeline: skipped layers",
    "FluxPipeline: true CFG",
    "ChromaPipeline",
)


@pytest.mark.parametrize("name", SEVERAL)
def test_an_image_depends_on_its_seed_alone(name: str):
    run = RUNS[name]
    pipe = run.make()

    def sample(*seeds: int) -> Tensor:
        given = run.arguments()
        rows = {key: value for key, value in given.items() if "prompt" in key and isinstance(value, Tensor)}
        rows = {key: torch.cat([value] * len(seeds)) for key, value in rows.items()}
        return run.sample(pipe, **rows, generator=[torch.Generator().manual_seed(seed) for seed in seeds])

    with pag.guide(pipe, S, layers=run.path):
        both = sample(3, 4)
        assert zoo.difference(both, torch.cat([sample(3), sample(4)])) <= 1e-5
        assert zoo.difference(both.flip(0), sample(4, 3)) <= 1e-5


def test_callbacks_that_end_cfg_half_way():
    run = RUNS["StableDiffusion3Pipeline"]
    pipe = run.make()

    def cut_off(pipe: Any, step: int, _t: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step == 0:
            pipe._guidance_scale = 0.0
            return {name: value[-1:] for name, value in tensors.items()}
        return {}

    names = ["prompt_embeds", "pooled_prompt_embeds"]
    given: dict[str, Any] = {"callback_on_step_end": cut_off, "callback_on_step_end_tensor_inputs": names}
    with guided(run, pipe, S):
        expected = run.sample(pipe, **given)
    with pag.guide(pipe, S, layers=run.path):
        assert zoo.difference(run.sample(pipe, **given), expected) <= run.tolerance
    assert zoo.difference(expected, run.sample(pipe)) > 10 * run.tolerance


CACHES: dict[str, Any] = {
    "first block": FirstBlockCacheConfig(threshold=10.0),
    "pyramid": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
    ),
}


@pytest.mark.parametrize("kind", CACHES)
def test_caches_that_leave_layers_out_are_refused(kind: str):
    """A step in which the perturbed layer does not run has no prediction to move away from."""
    run = RUNS["FluxPipeline"]
    pipe = run.make()
    with pag.guide(pipe, S, layers=run.path):
        expected = run.sample(pipe)
        pipe.transformer.enable_cache(CACHES[kind])
        with pytest.raises(RuntimeError, match=r"has a cache \(.*Config\).*disable_cache"):
            run.sample(pipe)
    with pag.guide(pipe, 0.0, layers=run.path):
        run.sample(pipe)
    pipe.transformer.disable_cache()
    with pag.guide(pipe, S, layers=run.path):
        assert zoo.difference(run.sample(pipe), expected) <= 1e-6


def test_stacks_of_blocks_by_name_share_rows():
    """Of a network that keeps its stacks in a dictionary, all that runs ahead of the last block runs once."""
    model, last = NETWORKS["flux3"].model(), "single_transformer_blocks.1.attn"
    shared, parted = (pag.cost(model, last, share_rows=share) for share in (True, False))
    assert shared.executed < parted.executed - 0.5
    rows: list[int] = []
    attention: Any = model.get_submodule("mode_blocks.image.0.attn")
    hook = attention.register_forward_hook(lambda _m, _i, output: rows.append(output.shape[0]))
    step = Step(model, G)
    with pag.guide(step, S, layers=last):
        step(NETWORKS["flux3"], step_arguments(NETWORKS["flux3"], G, 2))
    hook.remove()
    assert rows == [4], "not the perturbed rows"
