"""What is known of each denoiser family: where its sites are, and how its pipelines call it."""

from typing import Any

from torch import nn

from pag.families import (
    audio,
    class_conditional,
    cogvideo,
    cogview,
    cosmos,
    cross_attention,
    flux,
    flux2,
    flux_relatives,
    hunyuan_video,
    kandinsky,
    ltx,
    other_unets,
    other_videos,
    qwen,
    qwen_relatives,
    sana,
    sd3,
    single_stream,
    two_stacks,
    unet,
    wan,
)
from pag.families._controlnets import controlnet_example, controlnet_family, controlnets_of
from pag.families._family import Attending, Convention, Family, after_text, before_text, every_token
from pag.families._generic import generic_family
from pag.families._refused import REFUSED
from pag.families._registered import REGISTERED, register, unregister
from pag.families._sites import QUERIES_AND_KEYS, transformer_sites

FAMILIES: tuple[Family, ...] = (
    *unet.FAMILIES,
    *other_unets.FAMILIES,
    *class_conditional.FAMILIES,
    *cross_attention.FAMILIES,
    *sana.FAMILIES,
    *sd3.FAMILIES,
    *flux.FAMILIES,
    *flux_relatives.FAMILIES,
    *flux2.FAMILIES,
    *qwen.FAMILIES,
    *qwen_relatives.FAMILIES,
    *single_stream.FAMILIES,
    *two_stacks.FAMILIES,
    *cogview.FAMILIES,
    *wan.FAMILIES,
    *ltx.FAMILIES,
    *cogvideo.FAMILIES,
    *hunyuan_video.FAMILIES,
    *cosmos.FAMILIES,
    *kandinsky.FAMILIES,
    *other_videos.FAMILIES,
    *audio.FAMILIES,
)

DENOISERS = ("unet", "transformer", "transformer_2", "unconditional_transformer")
"""Names of pipeline components that predict noise."""


def family_of(model: nn.Module) -> Family:
    """The family of a denoiser.

    One that a user has registered comes first. A class that nobody knows is read by its structure.

    Raises:
        TypeError: if the class cannot be guided, or is unknown and its structure does not tell enough.
    """
    for base in type(model).__mro__:
        for family in (*REGISTERED, *FAMILIES):
            if base.__name__ in family.models:
                return family
        if base.__name__ in REFUSED:
            raise TypeError(f"{base.__name__} cannot be guided: {REFUSED[base.__name__]}.")
    return generic_family(model)


def denoisers_of(pipe: Any) -> dict[str, nn.Module]:
    """The denoisers of a pipeline by component name; most have one.

    Raises:
        TypeError: if the object has no denoiser.
    """
    found = {name: model for name in DENOISERS if isinstance(model := getattr(pipe, name, None), nn.Module)}
    if not found:
        raise TypeError(
            f"Expected a diffusers pipeline with a `unet` or a `transformer`, but got {type(pipe).__name__}."
        )
    return found


def denoiser_of(pipe: Any) -> nn.Module:
    """The denoiser of a pipeline, the first if there are several.

    Raises:
        TypeError: if the object has no denoiser.
    """
    return next(iter(denoisers_of(pipe).values()))


__all__ = [
    "DENOISERS",
    "FAMILIES",
    "QUERIES_AND_KEYS",
    "REFUSED",
    "Attending",
    "Convention",
    "Family",
    "after_text",
    "before_text",
    "controlnet_example",
    "controlnet_family",
    "controlnets_of",
    "denoiser_of",
    "denoisers_of",
    "every_token",
    "family_of",
    "register",
    "transformer_sites",
    "unregister",
]
