"""Runs on networks of `pag.families.other_videos`."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLMagvit,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HeliosDMDScheduler,
    HeliosScheduler,
)

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs import wan
from tests.runs._run import Run, pipeline

TEXT, CALLS = 5, ("cond", "uncond")
GAMMA = 0.3
"""Of ⅓, the default, the covariance of Helios' noise is singular: some processors find no Cholesky factor of it."""


def _embeddings(masks: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 9}
    for prefix, length in (("", 3), ("negative_", 4)):
        given[f"{prefix}prompt_embeds"] = torch.randn(1, TEXT, 16, generator=generator)
        if masks:
            given[f"{prefix}prompt_attention_mask"] = (torch.arange(TEXT) < length)[None].float()
    return given


def _vae() -> AutoencoderKLMagvit:
    torch.manual_seed(2)
    return AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


def _easyanimate(name: str, network: str, **components: Any) -> Any:
    return pipeline(
        name,
        vae=_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=strong(NETWORKS[network].make),
        **components,
    )


def _easyanimate_arguments() -> dict[str, Any]:
    return _embeddings(masks=True) | {"guidance_scale": 4.0}


def _easyanimate_control() -> Any:
    """The pipeline gives its own ``encode_prompt`` an argument that it does not have, in diffusers 0.42.1."""
    pipe = _easyanimate("EasyAnimateControlPipeline", "easyanimate_control")
    encode = pipe.encode_prompt
    pipe.encode_prompt = lambda text_encoder_index, **given: encode(**given)  # pyright: ignore
    return pipe


EASYANIMATE, EASYANIMATE_IMAGE = "transformer_blocks.1.attn1", slice(TEXT, TEXT + 12)


def _helios(name: str, scheduler: Any, **config: Any) -> Any:
    return pipeline(name, vae=wan.vae(), scheduler=scheduler, transformer=strong(NETWORKS["helios"].make), **config)


def _helios_arguments() -> dict[str, Any]:
    """Two sections: the second one has a history."""
    return _embeddings() | {"num_frames": 10, "num_latent_frames_per_chunk": 3, "guidance_scale": 4.0}


def _pyramid_arguments() -> dict[str, Any]:
    return _helios_arguments() | {"height": 64, "width": 64, "pyramid_num_inference_steps_list": [2, 1, 1]}


def _motif(name: str, network: str, **guider: Any) -> Any:
    return pipeline(
        name,
        vae=wan.vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=strong(NETWORKS[network].make),
        guider=ClassifierFreeGuidance(**guider),
    )


def _motif_with_image() -> Any:
    pipe = _motif("MotifVideoImage2VideoPipeline", "motif_video_with_image", guidance_scale=4.0)
    prepare = pipe._prepare_first_frame_conditioning
    image = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(8))
    pipe._prepare_first_frame_conditioning = lambda *args, **given: (*prepare(*args, **given)[:2], image)  # pyright: ignore
    return pipe


MOTIF, MOTIF_IMAGE = "transformer_blocks.1.attn", slice(0, 12)

RUNS = {
    "EasyAnimatePipeline": Run(
        lambda: _easyanimate("EasyAnimatePipeline", "easyanimate"),
        _easyanimate_arguments,
        EASYANIMATE,
        EASYANIMATE_IMAGE,
    ),
    "EasyAnimatePipeline: no CFG": Run(
        lambda: _easyanimate("EasyAnimatePipeline", "easyanimate"),
        lambda: _easyanimate_arguments() | {"guidance_scale": 1.0},
        EASYANIMATE,
        EASYANIMATE_IMAGE,
    ),
    "EasyAnimateInpaintPipeline": Run(
        lambda: _easyanimate("EasyAnimateInpaintPipeline", "easyanimate_inpaint"),
        lambda: _easyanimate_arguments() | {"video": zoo.picture(9, size=32).transpose(0, 1)[None], "strength": 1.0},
        EASYANIMATE,
        EASYANIMATE_IMAGE,
    ),
    "EasyAnimateControlPipeline": Run(
        _easyanimate_control,
        lambda: _easyanimate_arguments() | {"control_video": zoo.picture(9, size=32).transpose(0, 1)[None]},
        EASYANIMATE,
        EASYANIMATE_IMAGE,
    ),
    "HeliosPipeline": Run(
        lambda: _helios("HeliosPipeline", HeliosScheduler(stages=1)), _helios_arguments, "blocks.1.attn1", calls=CALLS
    ),
    "HeliosPyramidPipeline": Run(
        lambda: _helios("HeliosPyramidPipeline", HeliosScheduler(gamma=GAMMA)),
        _pyramid_arguments,
        "blocks.1.attn1",
        calls=CALLS,
        steps=None,
    ),
    "HeliosPyramidPipeline: distilled": Run(
        lambda: _helios("HeliosPyramidPipeline", HeliosDMDScheduler(gamma=GAMMA), is_distilled=True),
        lambda: _pyramid_arguments() | {"guidance_scale": 1.0},
        "blocks.1.attn1",
        steps=None,
    ),
    "MotifVideoPipeline": Run(
        lambda: _motif("MotifVideoPipeline", "motif_video", guidance_scale=4.0),
        lambda: _embeddings(masks=True),
        MOTIF,
        MOTIF_IMAGE,
        calls=CALLS,
    ),
    "MotifVideoImage2VideoPipeline": Run(
        _motif_with_image,
        lambda: _embeddings(masks=True) | {"image": zoo.picture(size=32), "prompt": None},
        MOTIF,
        MOTIF_IMAGE,
        calls=CALLS,
    ),
}
