"""Where the PAG classes of diffusers differ from its plain classes by more than the PAG arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pag.pipelines._arguments import GUIDANCE_RESCALE, Argument


@dataclass(frozen=True)
class Defaults:
    """What a PAG class takes for granted.

    Args:
        layers: the layers that are perturbed if none are given.
        values: defaults of the constructor and of the call that are not those of the plain class.
        more: arguments of the call that the plain class lacks.
    """

    layers: str = "auto"
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    more: tuple[Argument, ...] = ()


_UNET = Defaults("mid")
# diffusers finds "blocks.1" in the paths of blocks 10 to 19 as well; here it is the second block alone.
_BLOCK = Defaults("blocks.1")

UPSTREAM: Mapping[str, Defaults] = {
    "AnimateDiffPAGPipeline": Defaults("mid_block.*attn1"),
    "HunyuanDiTPAGPipeline": Defaults("blocks.1", values={"safety_checker": None, "feature_extractor": None}),
    "KolorsPAGPipeline": _UNET,
    "PixArtSigmaPAGPipeline": _BLOCK,
    "SanaPAGPipeline": Defaults("transformer_blocks.0"),
    "StableDiffusion3PAGImg2ImgPipeline": _BLOCK,
    "StableDiffusion3PAGPipeline": _BLOCK,
    "StableDiffusionControlNetPAGInpaintPipeline": _UNET,
    "StableDiffusionControlNetPAGPipeline": _UNET,
    "StableDiffusionPAGImg2ImgPipeline": _UNET,
    "StableDiffusionPAGInpaintPipeline": Defaults("mid", values={"strength": 0.9999}, more=(GUIDANCE_RESCALE,)),
    "StableDiffusionPAGPipeline": _UNET,
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": _UNET,
    "StableDiffusionXLControlNetPAGPipeline": _UNET,
    "StableDiffusionXLPAGImg2ImgPipeline": _UNET,
    "StableDiffusionXLPAGInpaintPipeline": _UNET,
    "StableDiffusionXLPAGPipeline": _UNET,
}
"""By class name."""
