"""One method, one file, one paper. A perturbation is a pure function of one attention operation."""

from pag.perturbations._interface import ALL, Answers, Attend, Heads, Keys, Perturbation, Tokens
from pag.perturbations.identity import frame_identity, identity

PERTURBATIONS: dict[str, Perturbation] = {"identity": identity, "frame_identity": frame_identity}

VALUES_ALONE = frozenset({"identity"})
"""Those that look neither at queries nor at keys, nor attend, where there are no tokens but the image's."""

__all__ = [
    "ALL",
    "PERTURBATIONS",
    "VALUES_ALONE",
    "Answers",
    "Attend",
    "Heads",
    "Keys",
    "Perturbation",
    "Tokens",
    "frame_identity",
    "identity",
]
