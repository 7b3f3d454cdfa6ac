"""Self-Attention Guidance (SAG), arXiv 2210.00939: the predicted image is blurred where the network looks."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pag.perturbations._interface import Attend, Heads, Image, InputPerturbation, Keys, Tokens

_SCORES, _QUERIES = 2**21, 128
"""Scores of a row that are held at once, and the least queries that are looked at at once. It is not for the number of
rows, so that torch.compile does not trace anew for each."""


def attended(q: Heads, k: Keys, attend: Attend, tokens: Tokens) -> Bool[Tensor, "rows image"]:
    """Tokens that get more than their share of attention: ``Σ_queries mean_heads softmax(QKᵀ/√d) > 1``.

    In joint attention the map is that of the image's tokens among themselves.

    Raises:
        ValueError: if the weights of the attention are no softmax of all tokens' scores.
    """
    if attend.linear or attend.causal:
        kind = "linear" if attend.linear else "causal"
        raise ValueError(f"Self-attention guidance is known for full softmax attention, but this one is {kind}.")
    queries, keys = q[..., tokens.image, :], k[..., tokens.keys, :]
    scale = q.shape[-1] ** -0.5 if attend.scale is None else attend.scale
    mask = _of_image(attend.mask, tokens)
    step = max(_QUERIES, _SCORES // (q.shape[1] * keys.shape[-2]))
    got = torch.zeros(k.shape[0], keys.shape[-2], dtype=torch.promote_types(q.dtype, torch.float32), device=q.device)
    for start in range(0, queries.shape[-2], step):
        part = slice(start, start + step)
        scores = queries[..., part, :] * scale @ keys.transpose(-1, -2)
        if mask is not None:
            own = mask if mask.shape[-2] == 1 else mask[..., part, :]
            scores = scores.masked_fill(~own, float("-inf")) if own.dtype == torch.bool else scores + own
        got = got + scores.softmax(dim=-1, dtype=got.dtype).nan_to_num().sum(-2).mean(1)
    return got > 1


def blurred(image: Image, where: Bool[Tensor, "rows 1 some less"], *, size: int, sigma: float) -> Image:
    """``x̃ = m ⊙ blur(x) + (1 − m) ⊙ x``, with the mask enlarged to the image, nearest pixel by nearest pixel.

    Args:
        image: what is blurred, or any multiple of it.
        where: the mask m on a coarser grid.
        size: pixels that the blur is taken over, an odd number.
        sigma: their standard deviation.

    Raises:
        ValueError: if the image is smaller than the blur.
    """
    if min(image.shape[-2:]) <= size // 2:
        height, width = image.shape[-2:]
        raise ValueError(
            f"Self-attention guidance blurs over {size} pixels here, but has {height}×{width}: it needs at least "
            f"{size // 2 + 1} of each."
        )
    mask = F.interpolate(where.to(image.dtype), image.shape[-2:]) > 0
    return torch.where(mask, _blur(image, size // 2, sigma), image)


def _blur(image: Image, half: int, sigma: float) -> Float[Tensor, "rows channels height width"]:
    """Gaussian, with the image mirrored at its edges: first down, then across."""
    offsets = torch.arange(-half, half + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    flat = F.pad(image.flatten(0, 1)[:, None], (half, half, half, half), mode="reflect")
    down = F.conv2d(flat, weights.view(1, 1, -1, 1))
    return F.conv2d(down, weights.view(1, 1, 1, -1)).view_as(image)


def _of_image(mask: Tensor | None, tokens: Tokens) -> Tensor | None:
    if mask is None:
        return None
    chosen = mask[..., tokens.keys]
    return chosen if mask.shape[-2] == 1 else chosen[..., tokens.image, :]


LATENTS = InputPerturbation(attended, partial(blurred, size=9, sigma=1.0), scale=0.75)
"""With the blur of diffusers' pipeline, for latents."""

PIXELS = InputPerturbation(attended, partial(blurred, size=31, sigma=9.0), scale=0.5)
"""With that of the authors' code for ADM at 256×256 pixels."""
