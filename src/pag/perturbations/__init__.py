"""One method, one file, one paper. A perturbation is a pure function of one attention operation."""

from pag.perturbations._interface import ALL, Answers, Attend, Heads, Keys, Perturbation, Tokens
from pag.perturbations.identity import frame_identity, identity

PERTURBATIONS: dict[str, Perturbation] = {"identity": identity, "frame_identity": frame_identity}

__all__ = [
    "ALL",
    "PERTURBATIONS",
    "Answers",
    "Attend",
    "Heads",
    "Keys",
    "Perturbation",
    "Tokens",
    "frame_identity",
    "identity",
]
