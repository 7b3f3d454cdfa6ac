"""Runs on U-Nets of `pag.families.unet` that take pooled text with the time: Stable Diffusion XL and Kolors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import ControlNetUnionModel, T2IAdapter
from PIL import Image

from tests import zoo
from tests.runs._run import Run
from tests.runs.unet import mask, run


def given(**more: Any) -> Callable[[], dict[str, Any]]:
    """Embeddings of the prompts, and more arguments."""
    return lambda: zoo.prompts() | zoo.pooled() | {"height": 32, "width": 32} | more


def union() -> ControlNetUnionModel:
    """A ControlNet of six kinds of pictures."""
    model: Any = zoo.controlnet(
        kind="sdxl",
        cls=ControlNetUnionModel,
        num_trans_channel=16,
        num_trans_head=2,
        num_proj_channel=16,
    )
    with torch.no_grad():
        model.spatial_ch_projs.weight.normal_(std=0.2)
    return model


def _controlnet() -> dict[str, Any]:
    return {"controlnet": zoo.controlnet(kind="sdxl")}


def _union() -> dict[str, Any]:
    return {"controlnet": union()}


def _adapter() -> dict[str, Any]:
    torch.manual_seed(11)
    adapter = T2IAdapter(
        channels=[16, 16, 32, 32], num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter_xl"
    )
    return {"adapter": adapter.eval()}


def _xl(cls: str, more: Callable[[], dict[str, Any]], kind: str = "sdxl", **facts: Any) -> Run:
    return run(cls, kind, more, **facts)


def _kolors_img2img() -> Any:
    pipe = zoo.pipeline("KolorsImg2ImgPipeline", "kolors")
    texts = zoo.prompts() | zoo.pooled()
    # It loses pooled embeddings that are passed to it.
    pipe.encode_prompt = lambda **_: tuple(texts.values())
    return pipe


_IMAGE: dict[str, Any] = {"image": zoo.picture()}
_CONTROL: dict[str, Any] = {"control_image": zoo.picture(seed=8)}
_MASK: dict[str, Any] = {"mask_image": mask()}
_MODE: dict[str, Any] = {"control_mode": 2}
_NO_CFG: dict[str, Any] = {"guidance_scale": 1.0}

RUNS = {
    "StableDiffusionXLPipeline": _xl("StableDiffusionXLPipeline", given()),
    "StableDiffusionXLPipeline: no CFG": _xl("StableDiffusionXLPipeline", given(**_NO_CFG)),
    "StableDiffusionXLPipeline: two images": _xl(
        "StableDiffusionXLPipeline", given(num_images_per_prompt=2), groups={4: (2, 1)}
    ),
    "StableDiffusionXLImg2ImgPipeline": _xl("StableDiffusionXLImg2ImgPipeline", given(**_IMAGE, strength=1.0)),
    "StableDiffusionXLInpaintPipeline": _xl(
        "StableDiffusionXLInpaintPipeline", given(**_IMAGE, **_MASK, strength=0.99), "sdxl_inpaint"
    ),
    "StableDiffusionXLInstructPix2PixPipeline": _xl(
        "StableDiffusionXLInstructPix2PixPipeline",
        given(**_IMAGE),
        "sdxl_pix2pix",
        groups={1: (1, 0), 3: (3, 0)},
    ),
    "StableDiffusionXLInstructPix2PixPipeline: two images": _xl(
        "StableDiffusionXLInstructPix2PixPipeline",
        given(**zoo.prompts(2), **zoo.pooled(2), image=zoo.picture(2)),
        "sdxl_pix2pix",
        groups={6: (3, 0)},
    ),
    "StableDiffusionXLAdapterPipeline": _xl(
        "StableDiffusionXLAdapterPipeline", given(image=Image.new("RGB", (32, 32), "red")), components=_adapter
    ),
    "StableDiffusionXLControlNetPipeline": _xl(
        "StableDiffusionXLControlNetPipeline", given(**_IMAGE), components=_controlnet
    ),
    "StableDiffusionXLControlNetImg2ImgPipeline": _xl(
        "StableDiffusionXLControlNetImg2ImgPipeline", given(**_IMAGE, **_CONTROL, strength=1.0), components=_controlnet
    ),
    "StableDiffusionXLControlNetInpaintPipeline": _xl(
        "StableDiffusionXLControlNetInpaintPipeline",
        given(**_IMAGE, **_CONTROL, **_MASK, strength=0.99),
        components=_controlnet,
    ),
    "StableDiffusionXLControlNetUnionPipeline": _xl(
        "StableDiffusionXLControlNetUnionPipeline",
        given(control_image=[zoo.picture(seed=8)], **_MODE),
        components=_union,
    ),
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": _xl(
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        given(**_IMAGE, control_image=[zoo.picture(seed=8)], **_MODE, strength=1.0),
        components=_union,
    ),
    "StableDiffusionXLControlNetUnionInpaintPipeline": _xl(
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        given(**_IMAGE, **_MASK, control_image=[zoo.picture(seed=8)], **_MODE, strength=0.99),
        components=_union,
    ),
    "KolorsPipeline": _xl("KolorsPipeline", given(), "kolors"),
    "KolorsImg2ImgPipeline": replace(
        _xl("KolorsImg2ImgPipeline", given(**_IMAGE, strength=1.0), "kolors"), make=_kolors_img2img
    ),
}
