"""Runs on U-Nets of `pag.families.unet` whose attention has added keys of the text: DeepFloyd IF and Kandinsky 2.

They predict a variance along with the noise, which is not guided. Their queries are the image's tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDPMScheduler, VQModel
from PIL import Image

from tests import zoo
from tests.runs._run import Run
from tests.runs.unet import mask

MID = "mid_block.attentions.0"


def movq() -> VQModel:
    """Kandinsky's autoencoder, which halves height and width."""
    torch.manual_seed(2)
    return VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
        latent_channels=4,
    ).eval()


def _run(make: Callable[[], Any], arguments: dict[str, Any], path: str = MID, output_type: str = "pt") -> Run:
    return Run(make, lambda: arguments, path, denoisers=("unet",), output_type=output_type, variance=True)


def _if(cls: str, kind: str = "if", path: str = MID, **more: Any) -> Run:
    def make() -> Any:
        # At the usual end of the noise schedule the difference of two predictions counts a hundredfold.
        schedulers = {"scheduler": DDPMScheduler(variance_type="learned_range", beta_end=0.002)}
        return zoo.pipeline(cls, kind, **schedulers, image_noising_scheduler=DDPMScheduler())

    return _run(make, zoo.prompts() | more, path)


def _embeddings(pooled: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_embeds": pooled["pooled_prompt_embeds"],
        "negative_image_embeds": pooled["negative_pooled_prompt_embeds"],
    }


def _encode_prompt(*_: Any) -> Any:
    """Text for Kandinsky 2.1: pooled, and one embedding for each token; CFG is on."""
    return torch.cat([*zoo.pooled(seed=11).values()]), torch.cat([*zoo.prompts().values()]), None


def _kandinsky(cls: str, kind: str, output_type: str = "pt", **more: Any) -> Run:
    def make() -> Any:
        pipe = zoo.pipeline(cls, kind, movq=movq())
        if "V22" not in cls:
            pipe._encode_prompt = _encode_prompt
        return pipe

    return _run(make, _embeddings(zoo.pooled()) | {"height": 32, "width": 32} | more, output_type=output_type)


def _combined(cls: str, kind: str, output_type: str = "pt", **more: Any) -> Run:
    """A pipeline that holds another one, whose prior is taken for granted."""

    def make() -> Any:
        pipe = zoo.pipeline(cls, kind, movq=movq())
        pipe.prior_pipe = _Prior()
        if "V22" not in cls:
            pipe.decoder_pipe._encode_prompt = _encode_prompt
        return pipe

    return _run(make, {"prompt": "a cat", "height": 32, "width": 32} | more, output_type=output_type)


class _Prior:
    def __call__(self, **_: Any) -> tuple[Any, ...]:
        return tuple(_embeddings(zoo.pooled()).values())

    def set_progress_bar_config(self, **_: Any) -> None:
        pass


def _painting() -> Image.Image:
    return Image.effect_noise((32, 32), 60).convert("RGB")


_IMAGE: dict[str, Any] = {"image": zoo.picture(size=zoo.SIZE)}
_SMALL: dict[str, Any] = {"image": zoo.picture(size=zoo.SIZE // 2)}
_ORIGINAL: dict[str, Any] = {"original_image": zoo.picture(size=zoo.SIZE, seed=8)}
_MASK: dict[str, Any] = {"mask_image": (zoo.picture(channels=1, size=zoo.SIZE) > 0.5).float()}
_WHOLE: dict[str, Any] = {"strength": 1.0}
_HINT: dict[str, Any] = {"hint": zoo.picture(size=8 * zoo.SIZE)}
_PAINTING: dict[str, Any] = {"image": _painting()}
_PAINTING_MASK: dict[str, Any] = {"mask_image": mask()[0, 0].numpy()}
# By default they hand an argument on that the pipeline which they hold calls deprecated.
_QUIET: dict[str, Any] = {"callback_steps": None}

RUNS = {
    "IFPipeline": _if("IFPipeline"),
    "IFPipeline: no CFG": _if("IFPipeline", guidance_scale=1.0),
    "IFImg2ImgPipeline": _if("IFImg2ImgPipeline", **_IMAGE, **_WHOLE),
    "IFInpaintingPipeline": _if("IFInpaintingPipeline", **_IMAGE, **_MASK, **_WHOLE),
    "IFSuperResolutionPipeline": _if("IFSuperResolutionPipeline", "if_upscaler", **_SMALL),
    "IFImg2ImgSuperResolutionPipeline": _if(
        "IFImg2ImgSuperResolutionPipeline", "if_upscaler", **_SMALL, **_ORIGINAL, **_WHOLE
    ),
    "IFInpaintingSuperResolutionPipeline": _if(
        "IFInpaintingSuperResolutionPipeline", "if_upscaler", **_SMALL, **_ORIGINAL, **_MASK, **_WHOLE
    ),
    "KandinskyPipeline": _kandinsky("KandinskyPipeline", "kandinsky", prompt="a cat"),
    "KandinskyImg2ImgPipeline": _kandinsky(
        "KandinskyImg2ImgPipeline", "kandinsky", prompt="a cat", **_PAINTING, **_WHOLE
    ),
    "KandinskyInpaintPipeline": _kandinsky(
        "KandinskyInpaintPipeline", "kandinsky_inpaint", prompt="a cat", **_PAINTING, **_PAINTING_MASK
    ),
    "KandinskyCombinedPipeline": _combined("KandinskyCombinedPipeline", "kandinsky"),
    "KandinskyImg2ImgCombinedPipeline": _combined(
        "KandinskyImg2ImgCombinedPipeline", "kandinsky", **_PAINTING, **_WHOLE
    ),
    "KandinskyInpaintCombinedPipeline": _combined(
        "KandinskyInpaintCombinedPipeline", "kandinsky_inpaint", **_PAINTING, **_PAINTING_MASK
    ),
    "KandinskyV22Pipeline": _kandinsky("KandinskyV22Pipeline", "kandinsky22", "latent"),
    "KandinskyV22Img2ImgPipeline": _kandinsky(
        "KandinskyV22Img2ImgPipeline", "kandinsky22", "latent", **_PAINTING, **_WHOLE
    ),
    "KandinskyV22InpaintPipeline": _kandinsky(
        "KandinskyV22InpaintPipeline", "kandinsky22_inpaint", "latent", **_PAINTING, **_PAINTING_MASK
    ),
    "KandinskyV22ControlnetPipeline": _kandinsky("KandinskyV22ControlnetPipeline", "kandinsky22_hint", **_HINT),
    "KandinskyV22ControlnetImg2ImgPipeline": _kandinsky(
        "KandinskyV22ControlnetImg2ImgPipeline", "kandinsky22_hint", **_PAINTING, **_HINT, **_WHOLE
    ),
    "KandinskyV22CombinedPipeline": _combined("KandinskyV22CombinedPipeline", "kandinsky22", "latent", **_QUIET),
    "KandinskyV22Img2ImgCombinedPipeline": _combined(
        "KandinskyV22Img2ImgCombinedPipeline", "kandinsky22", "latent", **_PAINTING, **_WHOLE, **_QUIET
    ),
    "KandinskyV22InpaintCombinedPipeline": _combined(
        "KandinskyV22InpaintCombinedPipeline", "kandinsky22_inpaint", "latent", **_PAINTING, **_PAINTING_MASK
    ),
}
