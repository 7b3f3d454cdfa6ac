"""Perturbed-Attention Guidance, arXiv 2403.17377: the self-attention map becomes the identity."""

from pag.perturbations._interface import Attend, Heads, Tokens


def identity(q: Heads, k: Heads, v: Heads, attend: Attend, tokens: Tokens) -> Heads:
    """``softmax(QKᵀ/√d)·V`` becomes ``I·V = V``: each token attends to itself alone."""
    return v
