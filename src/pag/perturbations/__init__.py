"""One method, one file, one paper. A perturbation is a pure function of one attention operation, or of an image."""

from pag.perturbations._interface import (
    ALL,
    Answers,
    Attend,
    Heads,
    Image,
    InputPerturbation,
    Keys,
    Perturbation,
    Tokens,
)
from pag.perturbations.identity import frame_identity, identity
from pag.perturbations.self_attention_guidance import LATENTS, PIXELS

PERTURBATIONS: dict[str, Perturbation] = {"identity": identity, "frame_identity": frame_identity}
"""Those of attention."""

INPUT_PERTURBATIONS: dict[str, InputPerturbation] = {"sag": LATENTS, "sag_pixels": PIXELS}
"""Those of the network's input."""

METHODS = (*PERTURBATIONS, *INPUT_PERTURBATIONS)
"""The names of all."""

VALUES_ALONE = frozenset({"identity"})
"""Those that look neither at queries nor at keys, nor attend, where there are no tokens but the image's."""

__all__ = [
    "ALL",
    "INPUT_PERTURBATIONS",
    "METHODS",
    "PERTURBATIONS",
    "VALUES_ALONE",
    "Answers",
    "Attend",
    "Heads",
    "Image",
    "InputPerturbation",
    "Keys",
    "Perturbation",
    "Tokens",
    "frame_identity",
    "identity",
]
