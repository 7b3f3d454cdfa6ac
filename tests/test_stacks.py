"""Guidance on top of whatever else diffusers can do to a Stable Diffusion pipeline: it works, or refuses clearly.

"Works" means: the same latents as `tests/reference.py` gives on the same pipeline, which computes the formula from
separate forwards and uses nothing of ours. Not shown here for want of a GPU: that offloaded weights really travel
(hooks of accelerate and diffusers are exercised on the CPU), and the xformers, flash and sage attention kernels.
"""

from functools import cache
from typing import Any, cast

import accelerate
import pytest
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, MultiAdapter, MultiControlNetModel, T2IAdapter
from diffusers.callbacks import SDCFGCutoffCallback
from diffusers.models.attention_processor import (
    AttnAddedKVProcessor,
    AttnProcessor,
    FusedAttnProcessor2_0,
    SlicedAttnAddedKVProcessor,
    SlicedAttnProcessor,
)
from PIL import Image
from torch import Tensor, nn

import pag
from tests import reference, zoo
from tests.runs import RUNS

MID = "mid_block.attentions.0.transformer_blocks.0.attn1"
S = 3.0


def check(pipe: Any, *, path: str = MID, groups: Any = None, tolerance: float = 1e-4, **arguments: Any) -> Tensor:
    """Guide a run and compare it with the reference; returns the guided latents."""
    arguments = {"steps": 2, **zoo.prompts(), **arguments}
    plain = zoo.sample(pipe, **arguments)
    with pag.guide(pipe, S, layers=path):
        ours = zoo.sample(pipe, **arguments)
    assert zoo.sample(pipe, **arguments).equal(plain)
    with reference.guided(pipe, S, [path], groups):
        expected = zoo.sample(pipe, **arguments)
    assert zoo.difference(expected, plain) > 10 * tolerance, "guidance cannot be seen here"
    assert zoo.difference(ours, expected) <= tolerance
    return ours


with_and_without_cfg = pytest.mark.parametrize("guidance_scale", [0.0, 4.0], ids=["alone", "cfg"])


class TestTheNetworkIsChanged:
    @with_and_without_cfg
    def test_lora(self, guidance_scale: float):
        peft = pytest.importorskip("peft")
        # Without a text encoder diffusers fails to scale the adapters of the text encoder.
        pipe = zoo.pipeline(text_encoder=zoo.text_encoder())
        modules = ["to_q", "to_k", "to_v", "to_out.0"]
        pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False))
        with_lora = check(pipe, guidance_scale=guidance_scale)
        check(pipe, guidance_scale=guidance_scale, cross_attention_kwargs={"scale": 0.5})
        pipe.unet.disable_adapters()
        assert zoo.difference(check(pipe, guidance_scale=guidance_scale), with_lora) > 1e-3

    @pytest.mark.parametrize("path", [MID, "up_blocks.2.attentions.0.transformer_blocks.0.attn1"])
    def test_freeu(self, path: str):
        """It changes its input in place, also in blocks that share rows."""
        pipe = zoo.pipeline()
        pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
        check(pipe, path=path)

    @pytest.mark.parametrize("path", [MID, "up_blocks.1.attentions.0.transformer_blocks.0.attn1"])
    def test_fused_projections(self, path: str):
        pipe = zoo.pipeline()
        separate = check(pipe, path=path)
        pipe.fuse_qkv_projections(vae=False)
        assert isinstance(pipe.unet.get_submodule(path).processor, FusedAttnProcessor2_0)
        assert zoo.difference(check(pipe, path=path), separate) <= 1e-4

    @pytest.mark.parametrize("guided_first", [False, True])
    @pytest.mark.parametrize("kind", ["sd15", "sd2"])
    def test_processors_without_the_native_operation(self, kind: str, guided_first: bool):
        pipe = zoo.pipeline(kind=kind)
        expected = check(pipe)
        for change, processor in (
            (lambda: pipe.enable_attention_slicing(1), SlicedAttnProcessor),
            (lambda: pipe.unet.set_attn_processor(AttnProcessor()), AttnProcessor),
        ):
            guide = pag.guide(pipe, S)
            if guided_first:
                guide.attach()
                change()
            else:
                change()
                guide.attach()
            assert isinstance(pipe.unet.get_submodule(MID).processor, processor)
            assert zoo.difference(zoo.sample(pipe, steps=2, **zoo.prompts()), expected) <= 1e-4
            guide.detach()
            assert isinstance(pipe.unet.get_submodule(MID).processor, processor)

    @pytest.mark.parametrize("processor", [AttnAddedKVProcessor, SlicedAttnAddedKVProcessor])
    def test_processors_of_added_keys_without_the_native_operation(self, processor: type):
        run = RUNS["IFPipeline"]
        pipe = run.make()
        with pag.guide(pipe, S):
            expected = run.sample(pipe)
            if processor is SlicedAttnAddedKVProcessor:
                pipe.enable_attention_slicing(1)
            else:
                pipe.unet.set_attn_processor(AttnAddedKVProcessor())
            assert isinstance(pipe.unet.get_submodule(run.path).processor, processor)
            assert zoo.difference(run.sample(pipe), expected) <= 1e-4

    def test_set_default_attn_processor(self):
        pipe = zoo.pipeline()
        pipe.unet.set_default_attn_processor()
        check(pipe)


class TestOffload:
    def test_model_offload(self):
        """Its hooks are taken off and put on again after each run, so one run under guidance would show nothing."""
        pipe = zoo.pipeline()
        expected = check(pipe)
        pipe.enable_model_cpu_offload(device="cpu")
        with pag.guide(pipe, S):
            assert zoo.sample(pipe, steps=2, **zoo.prompts()).equal(expected)
            assert zoo.sample(pipe, steps=2, **zoo.prompts()).equal(expected)
        assert zoo.difference(zoo.sample(pipe, steps=2, **zoo.prompts()), expected) > 1e-3

    def test_model_offload_that_begins_under_guidance(self):
        pipe = zoo.pipeline()
        expected = check(pipe)
        with pag.guide(pipe, S):
            pipe.enable_model_cpu_offload(device="cpu")
            for _ in range(2):
                assert zoo.sample(pipe, steps=2, **zoo.prompts()).equal(expected)

    def test_sequential_offload(self):
        """Weights are on the meta device but for the calls of their modules.

        Parameters are handed over, because accelerate cannot put plain tensors back onto a CPU.
        """
        pipe = zoo.pipeline()
        expected = check(pipe)
        for model in (pipe.vae, pipe.unet):
            weights: dict[str, Tensor] = {
                name: nn.Parameter(value, requires_grad=False) for name, value in model.state_dict().items()
            }
            accelerate.cpu_offload(model, torch.device("cpu"), state_dict=weights)
        assert pipe.unet.conv_in.weight.is_meta
        with pag.guide(pipe, S):
            for _ in range(2):
                assert zoo.sample(pipe, steps=2, **zoo.prompts()).equal(expected)

    @pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
    def test_group_offload(self, offload_type: str):
        pipe = zoo.pipeline()
        expected = check(pipe)
        device = torch.device("cpu")
        blocks = {"num_blocks_per_group": 1} if offload_type == "block_level" else {}
        pipe.unet.enable_group_offload(device, device, offload_type=offload_type, **blocks)
        with pag.guide(pipe, S):
            for _ in range(2):
                assert zoo.sample(pipe, steps=2, **zoo.prompts()).equal(expected)


class TestTheVae:
    @pytest.mark.parametrize("option", ["enable_slicing", "enable_tiling"])
    def test_slicing_and_tiling(self, option: str):
        pipe = zoo.pipeline()
        arguments: dict[str, Any] = {**zoo.prompts(2), "seeds": (0, 1), "output_type": "pt"}
        with pag.guide(pipe, S):
            expected = zoo.sample(pipe, **arguments)
            getattr(pipe.vae, option)()
            assert zoo.difference(zoo.sample(pipe, **arguments), expected) <= 1e-4


class TestTheRun:
    def test_cfg_that_is_cut_off(self):
        """From the second step on the pipeline passes one row and combines nothing."""
        cutoff: dict[str, Any] = {
            "callback_on_step_end": cast(Any, SDCFGCutoffCallback)(cutoff_step_ratio=None, cutoff_step_index=0),
            "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
        }
        full, cut = check(zoo.pipeline()), check(zoo.pipeline(), **cutoff)
        assert zoo.difference(full, cut) > 1e-3

    def test_interrupting(self):
        pipe = zoo.pipeline()

        def stop(pipe: Any, step: int, timestep: int, inputs: dict[str, Any]) -> dict[str, Any]:
            pipe._interrupt = step == 1
            return inputs

        with pag.guide(pipe, S):
            stopped = zoo.sample(pipe, steps=4, callback_on_step_end=stop, **zoo.prompts())
            assert zoo.sample(pipe, steps=4, **zoo.prompts()).shape == stopped.shape

    def test_several_images_of_a_prompt(self):
        pipe = zoo.pipeline()
        groups = {4: (2, 1)}
        check(pipe, num_images_per_prompt=2, seeds=(0, 1), groups=groups)

    def test_a_tokenizer_and_text_encoder(self):
        pipe = zoo.pipeline(tokenizer=zoo.tokenizer(), text_encoder=zoo.text_encoder())
        texts: dict[str, Any] = {"prompt": "a cat", "negative_prompt": "b"}
        check(pipe, **texts, prompt_embeds=None, negative_prompt_embeds=None)


class TestAdapters:
    @with_and_without_cfg
    @pytest.mark.parametrize("guess_mode", [False, True])
    @pytest.mark.parametrize("count", [1, 2])
    def test_controlnet(self, count: int, guess_mode: bool, guidance_scale: float):
        nets, rows = [zoo.controlnet(seed) for seed in range(count)], list[int]()
        nets[0].conv_in.register_forward_hook(lambda _module, _inputs, output: rows.append(output.shape[0]))
        net = nets[0] if count == 1 else MultiControlNetModel(nets)
        pipe = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=net)
        image: Any = [zoo.picture(seed=seed) for seed in range(count)]
        with_control = check(
            pipe, image=image[0] if count == 1 else image, guess_mode=guess_mode, guidance_scale=guidance_scale
        )
        assert set(rows) == {2 if guidance_scale and not guess_mode else 1}, "the ControlNet runs no perturbed row"
        assert zoo.difference(with_control, check(zoo.pipeline(), guidance_scale=guidance_scale)) > 1e-3

    @with_and_without_cfg
    @pytest.mark.parametrize("count", [1, 2])
    def test_t2i_adapter(self, count: int, guidance_scale: float):
        channels: Any = [16, 16, 32]
        # The network adds the last of the features in place, to its residual connection too.
        adapters = [T2IAdapter(channels=channels, num_res_blocks=1, downscale_factor=2).eval() for _ in range(count)]
        adapter = adapters[0] if count == 1 else MultiAdapter(adapters).eval()
        pipe = zoo.pipeline("StableDiffusionAdapterPipeline", adapter=adapter)
        pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "green")]
        scales: dict[str, Any] = {} if count == 1 else {"adapter_conditioning_scale": [0.7, 0.4]}
        image: Any = pictures[0] if count == 1 else pictures
        adapted = check(pipe, image=image, guidance_scale=guidance_scale, **scales)
        assert zoo.difference(adapted, check(zoo.pipeline(), guidance_scale=guidance_scale)) > 1e-3

    @with_and_without_cfg
    @pytest.mark.parametrize("guided_first", [False, True])
    def test_ip_adapter(self, guidance_scale: float, guided_first: bool):
        pipe = zoo.pipeline()
        expected_without = check(pipe, guidance_scale=guidance_scale)
        guide = pag.guide(pipe, S)
        if guided_first:
            guide.attach()
        pipe.unet._load_ip_adapter_weights(zoo.ip_adapter(pipe.unet))
        guide.detach()
        rows = 2 if guidance_scale else 1
        embeds = [torch.randn(rows, 1, zoo.TEXT, generator=torch.Generator().manual_seed(8))]
        ours = check(pipe, ip_adapter_image_embeds=embeds, guidance_scale=guidance_scale)
        assert zoo.difference(ours, expected_without) > 1e-3


def upscaler() -> tuple[Any, dict[str, Any]]:
    """The pipeline of the latent upscaler, and what it takes."""
    pipe = zoo.pipeline("StableDiffusionLatentUpscalePipeline", "latent_upscaler", scheduler=EulerDiscreteScheduler())
    # The pooled embeddings and 128 numbers for the noise level enter with the time.
    arguments = {**zoo.prompts(), **zoo.pooled(), "image": zoo.picture(channels=4, size=zoo.SIZE // 2)}
    return pipe, {**arguments, "steps": 4}


network, autoencoder = cache(zoo.unet), cache(zoo.vae)


def other(cls: str, kind: str = "sd15", **components: Any) -> Any:
    """A pipeline on networks that no test changes."""
    parts: dict[str, Any] = {"unet": network(kind), "vae": autoencoder(), **components}
    return zoo.pipeline(cls, **parts)


class TestOtherPipelines:
    """Those of Stable Diffusion for which diffusers has no PAG, or where it has one: see `test_oracle.py`."""

    def test_image_to_image(self):
        check(other("StableDiffusionImg2ImgPipeline"), image=zoo.picture(), strength=0.8)

    @pytest.mark.parametrize("kind", ["sd15", "inpaint"])
    def test_inpainting(self, kind: str):
        pipe = other("StableDiffusionInpaintPipeline", kind)
        mask = (zoo.picture(channels=1) > 0.5).float()
        check(pipe, image=zoo.picture(), mask_image=mask, height=32, width=32)

    @with_and_without_cfg
    def test_depth_to_image(self, guidance_scale: float):
        pipe = other("StableDiffusionDepth2ImgPipeline", "depth")
        depth = zoo.picture(channels=1)[0]
        check(pipe, image=zoo.picture(), depth_map=depth, strength=0.8, guidance_scale=guidance_scale)

    @with_and_without_cfg
    def test_upscaling(self, guidance_scale: float):
        pipe = other("StableDiffusionUpscalePipeline", "upscaler", vae=zoo.vae(scaling_factor=0.08333))
        check(pipe, image=zoo.picture(size=zoo.SIZE), noise_level=20, guidance_scale=guidance_scale)

    @pytest.mark.parametrize(
        ("guidance_scale", "image_guidance_scale"), [(4.0, 1.5), (0.0, 1.5)], ids=["three rows", "one row"]
    )
    def test_instruct_pix2pix(self, guidance_scale: float, image_guidance_scale: float):
        pipe = other("StableDiffusionInstructPix2PixPipeline", "pix2pix")
        check(
            pipe,
            image=zoo.picture(),
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            groups={1: (1, 0), 3: (3, 0)},
        )

    @with_and_without_cfg
    def test_image_variation(self, guidance_scale: float):
        pipe = other(
            "StableDiffusionImageVariationPipeline",
            image_encoder=zoo.image_encoder(),
            feature_extractor=zoo.feature_extractor(),
        )
        no_text: dict[str, Any] = {"prompt_embeds": None, "negative_prompt_embeds": None}
        plain: dict[str, Any] = {"image": zoo.picture(size=30), "guidance_scale": guidance_scale}
        check(pipe_without(pipe, no_text), **plain, **no_text)

    @pytest.mark.parametrize("guidance_scale", [1.0, 4.0], ids=["alone", "cfg"])
    def test_latent_upscaling(self, guidance_scale: float):
        pipe, arguments = upscaler()
        check(pipe, path="down_blocks.3.attentions.0.attn1", guidance_scale=guidance_scale, **arguments)

    def test_an_interval_of_latent_upscaling(self):
        pipe, arguments = upscaler()
        with pag.guide(pipe, S, layers="d0", stop=0.5):
            guided = zoo.sample(pipe, **arguments)
        assert not guided.equal(zoo.sample(pipe, **arguments))

    def test_latent_consistency(self):
        pipe = other("LatentConsistencyModelPipeline", "lcm", scheduler=LCMScheduler())
        texts: dict[str, Any] = {"negative_prompt_embeds": None}
        check(pipe_without(pipe, texts), original_inference_steps=20, guidance_scale=8.0, **texts)


def pipe_without(pipe: Any, absent: dict[str, Any]) -> Any:
    """The pipeline, called without arguments that it does not know."""

    class Narrow:
        unet = pipe.unet

        def __call__(self, **arguments: Any) -> Any:
            return pipe(**{name: value for name, value in arguments.items() if name not in absent})

        def __getattr__(self, name: str) -> Any:
            return getattr(pipe, name)

    return Narrow()


class TestRefusals:
    def test_the_pipelines_of_diffusers_that_do_it_themselves(self):
        pipe = zoo.pipeline("StableDiffusionPAGPipeline")
        with pytest.raises(TypeError, match="StableDiffusionPAGPipeline of diffusers adds perturbed rows itself"):
            pag.guide(pipe, S)

    def test_what_is_no_pipeline(self):
        with pytest.raises(TypeError, match="Expected a diffusers pipeline with a `unet` or a `transf"):
            pag.guide(zoo.pipeline().image_processor, S)

    def test_a_network_of_an_unknown_family(self):
        pipe = zoo.pipeline()
        pipe.unet = nn.Linear(1, 1)
        with pytest.raises(TypeError, match="Linear cannot be guided: its family is not known"):
            pag.guide(pipe, S)
