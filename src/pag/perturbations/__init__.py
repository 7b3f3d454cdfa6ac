"""One method, one file, one paper. A perturbation is a pure function of one attention operation."""

from pag.perturbations._interface import Attend, Heads, Perturbation, Tokens
from pag.perturbations.identity import identity

PERTURBATIONS: dict[str, Perturbation] = {"identity": identity}

__all__ = ["PERTURBATIONS", "Attend", "Heads", "Perturbation", "Tokens", "identity"]
