"""Combination rules: pure functions of the denoiser's predictions.

Symbols, as in the paper (arXiv 2403.17377): ``u`` is the prediction for the negative prompt, ``c`` for the
prompt, ``p`` (the paper's ĉ) for the prompt with perturbed self-attention. ``g`` is the scale of
classifier-free guidance (CFG), ``s`` that of perturbed-attention guidance (PAG).
"""

from jaxtyping import Float
from torch import Tensor

Prediction = Float[Tensor, "rows *shape"]


def delta(c: Prediction, p: Prediction, s: float) -> Prediction:
    """What PAG adds to any prediction: ``s·(c − p)``."""
    return s * (c - p)


def classifier_free(u: Prediction, c: Prediction, g: float) -> Prediction:
    """Classifier-free guidance (arXiv 2207.12598): ``u + g·(c − u)``."""
    return u + g * (c - u)


def rescale(guided: Prediction, c: Prediction, amount: float) -> Prediction:
    """Pull the standard deviation of each row towards that of the prompt's prediction (arXiv 2305.08891).

    ``amount·guided·std(c)/std(guided) + (1 − amount)·guided``, with the deviation taken over all but the rows.
    """
    axes = tuple(range(1, c.ndim))
    ratio = c.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided * (amount * ratio + (1 - amount))


def last_tokens(
    whole: Float[Tensor, "rows all *shape"], like: Float[Tensor, "rows tokens *shape"]
) -> Float[Tensor, "rows tokens *shape"]:
    """As many tokens as another prediction has: without text it may have those of the image alone, the last ones."""
    return whole[:, -like.shape[1] :]
