"""Runs on U-Nets of `pag.families.unet` with cross-attention: Stable Diffusion 1.x and 2.x and what is built on it."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PriorTransformer,
    T2IAdapter,
    UnCLIPScheduler,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from PIL import Image

from tests import zoo
from tests.runs._run import Run

MID = "mid_block.attentions.0.transformer_blocks.0.attn1"


def run(
    cls: str,
    kind: str = "sd15",
    arguments: Callable[[], dict[str, Any]] = zoo.prompts,
    components: Callable[[], dict[str, Any]] = dict,
    **facts: Any,
) -> Run:
    """A run of a pipeline on a U-Net of `tests.zoo`.

    Args:
        cls: class of the pipeline.
        kind: of the U-Net.
        arguments: arguments of the call.
        components: further components.
        facts: of the run, where they are not those of Stable Diffusion.
    """
    defaults: dict[str, Any] = {"path": MID, "denoisers": ("unet",)}
    return Run(lambda: zoo.pipeline(cls, kind, **components()), arguments, **(defaults | facts))


def given(**more: Any) -> Callable[[], dict[str, Any]]:
    """Embeddings of the prompts, and more arguments."""
    return lambda: zoo.prompts() | more


def mask() -> torch.Tensor:
    """A random mask."""
    return (zoo.picture(channels=1) > 0.5).float()


def _image_encoder() -> dict[str, Any]:
    return {"image_encoder": zoo.image_encoder(), "feature_extractor": zoo.feature_extractor()}


def _controlnet() -> dict[str, Any]:
    return {"controlnet": zoo.controlnet()}


def _adapter() -> dict[str, Any]:
    torch.manual_seed(11)
    return {"adapter": T2IAdapter(channels=[16, 16, 32], num_res_blocks=1, downscale_factor=2).eval()}


def _lcm() -> dict[str, Any]:
    return {"scheduler": LCMScheduler()}


def _prompt() -> dict[str, Any]:
    return {"prompt_embeds": zoo.prompts()["prompt_embeds"]}


def _unclip() -> dict[str, Any]:
    normalizer = StableUnCLIPImageNormalizer(zoo.TEXT)
    return {"image_normalizer": normalizer, "image_noising_scheduler": DDPMScheduler()}


def _unclip_of_text() -> Any:
    torch.manual_seed(12)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, embedding_dim=zoo.TEXT, num_layers=1, num_embeddings=zoo.TOKENS
    )
    schedulers = {"prior_scheduler": UnCLIPScheduler(prediction_type="sample"), "prior": prior.eval()}
    pipe = zoo.pipeline("StableUnCLIPPipeline", "unclip", **_unclip(), **schedulers)
    texts = zoo.prompts(2)["prompt_embeds"], torch.ones(2, zoo.TOKENS, dtype=torch.bool)
    pipe._encode_prior_prompt = lambda **_: (zoo.pooled(2)["pooled_prompt_embeds"], *texts)
    return pipe


def _marigold(cls: str, kind: str = "pix2pix", **components: Any) -> Run:
    def make() -> Any:
        pipe = zoo.pipeline(cls, kind, **components)
        pipe.empty_text_embedding = zoo.prompts()["prompt_embeds"]
        return pipe

    arguments: dict[str, Any] = {"image": zoo.picture(), "processing_resolution": 32, "output_latent": True}
    facts: dict[str, Any] = {"output": lambda output: output[-1], "output_type": "pt", "denoisers": ("unet",)}
    return Run(make, lambda: arguments, MID, **facts)


_INPAINT: dict[str, Any] = {"image": zoo.picture(), "mask_image": mask(), "height": 32, "width": 32}
_CONTROL_INPAINT: dict[str, Any] = {**_INPAINT, "control_image": zoo.picture(seed=8)}
_THREE_ROWS: dict[str, Any] = {"groups": {1: (1, 0), 3: (3, 0)}}
_NO_CFG: dict[str, Any] = {"guidance_scale": 1.0}

RUNS = {
    "StableDiffusionPipeline": run("StableDiffusionPipeline"),
    "StableDiffusionPipeline: no CFG": run("StableDiffusionPipeline", arguments=given(**_NO_CFG)),
    "StableDiffusionPipeline: 2.x": run("StableDiffusionPipeline", "sd2"),
    "StableDiffusionImg2ImgPipeline": run("StableDiffusionImg2ImgPipeline", arguments=given(image=zoo.picture())),
    "StableDiffusionInpaintPipeline": run("StableDiffusionInpaintPipeline", "inpaint", given(**_INPAINT)),
    "StableDiffusionDepth2ImgPipeline": run(
        "StableDiffusionDepth2ImgPipeline",
        "depth",
        given(image=zoo.picture(), depth_map=zoo.picture(channels=1)[0], strength=1.0),
    ),
    "StableDiffusionUpscalePipeline": run(
        "StableDiffusionUpscalePipeline",
        "upscaler",
        given(image=zoo.picture(size=zoo.SIZE), noise_level=20),
        lambda: {"vae": zoo.vae(scaling_factor=0.08333)},
    ),
    "StableDiffusionLatentUpscalePipeline": run(
        "StableDiffusionLatentUpscalePipeline",
        "latent_upscaler",
        given(**zoo.pooled(), image=zoo.picture(channels=4, size=zoo.SIZE // 2)),
        lambda: {"scheduler": EulerDiscreteScheduler()},
        path="down_blocks.3.attentions.0.attn1",
    ),
    "StableDiffusionInstructPix2PixPipeline": run(
        "StableDiffusionInstructPix2PixPipeline", "pix2pix", given(image=zoo.picture()), **_THREE_ROWS
    ),
    "StableDiffusionImageVariationPipeline": run(
        "StableDiffusionImageVariationPipeline",
        arguments=lambda: {"image": zoo.picture(size=30)},
        components=_image_encoder,
    ),
    "StableDiffusionAdapterPipeline": run(
        "StableDiffusionAdapterPipeline", arguments=given(image=Image.new("RGB", (32, 32), "red")), components=_adapter
    ),
    "StableDiffusionControlNetPipeline": run(
        "StableDiffusionControlNetPipeline", arguments=given(image=zoo.picture()), components=_controlnet
    ),
    "StableDiffusionControlNetImg2ImgPipeline": run(
        "StableDiffusionControlNetImg2ImgPipeline",
        arguments=given(image=zoo.picture(), control_image=zoo.picture(seed=8)),
        components=_controlnet,
    ),
    "StableDiffusionControlNetInpaintPipeline": run(
        "StableDiffusionControlNetInpaintPipeline", arguments=given(**_CONTROL_INPAINT), components=_controlnet
    ),
    "LatentConsistencyModelPipeline": run(
        "LatentConsistencyModelPipeline",
        "lcm",
        lambda: _prompt() | {"original_inference_steps": 20},
        _lcm,
    ),
    "LatentConsistencyModelImg2ImgPipeline": run(
        "LatentConsistencyModelImg2ImgPipeline",
        "lcm",
        lambda: _prompt() | {"original_inference_steps": 20, "image": zoo.picture()},
        _lcm,
    ),
    "StableUnCLIPImg2ImgPipeline": run(
        "StableUnCLIPImg2ImgPipeline",
        "unclip",
        given(image=zoo.picture(size=30)),
        lambda: _unclip() | _image_encoder(),
    ),
    "StableUnCLIPPipeline": Run(_unclip_of_text, given(prior_num_inference_steps=2), MID, denoisers=("unet",)),
    "MarigoldDepthPipeline": _marigold("MarigoldDepthPipeline", prediction_type="depth"),
    "MarigoldNormalsPipeline": _marigold("MarigoldNormalsPipeline", prediction_type="normals"),
    "MarigoldIntrinsicsPipeline": _marigold(
        "MarigoldIntrinsicsPipeline",
        "intrinsics",
        prediction_type="intrinsics",
        target_properties={"target_names": ["albedo", "material"]},
    ),
}
