"""What is known of each denoiser family: where its sites are, and how its pipelines call it."""

from typing import Any

from torch import nn

from pag.families._family import Convention, Family
from pag.families.unet import UNET

FAMILIES: tuple[Family, ...] = (UNET,)


def family_of(model: nn.Module) -> Family:
    """The family of a denoiser.

    Raises:
        TypeError: if no family knows the class of the model.
    """
    for family in FAMILIES:
        if any(base.__name__ in family.models for base in type(model).__mro__):
            return family
    known = ", ".join(name for family in FAMILIES for name in family.models)
    raise TypeError(f"{type(model).__name__} cannot be guided: its family is not known. Known are: {known}.")


def denoiser_of(pipe: Any) -> nn.Module:
    """The denoiser component of a pipeline.

    Raises:
        TypeError: if the object has no denoiser.
    """
    for name in ("unet", "transformer"):
        if isinstance(model := getattr(pipe, name, None), nn.Module):
            return model
    raise TypeError(f"Expected a diffusers pipeline with a `unet`, but got {type(pipe).__name__}.")


__all__ = ["FAMILIES", "Convention", "Family", "denoiser_of", "family_of"]
