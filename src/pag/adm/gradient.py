"""Classifier guidance: where the samples of a class are more probable (arXiv 2105.05233, section 4)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["class_gradient", "noise_share"]


def class_gradient(
    classifier: Any,
    sample: Float[Tensor, "images channels height width"],
    timestep: Tensor,
    labels: Int[Tensor, "images"],
) -> Float[Tensor, "images channels height width"]:
    """``∇ₓ log p(y | xₜ)`` of a classifier of noisy images, for the class y of each image.

    Args:
        classifier: called with the sample and its timestep, it returns logits, or an output that has them.
        sample: xₜ, as the denoiser gets it.
        timestep: t.
        labels: y.

    Raises:
        ValueError: if the classifier has no logit for some label.
    """
    # Weights made outside of inference mode can be differentiated through, samples made inside cannot.
    with torch.inference_mode(False), torch.enable_grad():
        noisy = sample.detach().clone().requires_grad_()
        weights = next(classifier.parameters(), noisy)
        output = classifier(noisy.to(weights.dtype), torch.as_tensor(timestep, device=noisy.device).expand(len(noisy)))
        logits: Tensor = getattr(output, "logits", output)
        if logits.ndim != 2 or logits.shape[1] <= int(labels.max()):
            raise ValueError(
                f"The classifier returned logits of shape {tuple(logits.shape)}, which have no entry for class "
                f"{int(labels.max())}: expected one for each class, for each of {len(sample)} images."
            )
        probable = torch.log_softmax(logits.float(), dim=-1).gather(1, labels[:, None].clone())
        return torch.autograd.grad(probable.sum(), noisy)[0].detach()


def noise_share(alphas_cumprod: Float[Tensor, "times"], timestep: float) -> float:
    """``√(1 − ᾱₜ)``; between two trained timesteps, the logarithm of the noise level runs straight."""
    below = min(int(timestep), len(alphas_cumprod) - 1)
    pair = alphas_cumprod[below : below + 2].double()
    logits = torch.logit(pair)
    part = timestep - below if len(pair) == 2 else 0.0
    return float((1 - torch.sigmoid(torch.lerp(logits[0], logits[-1], part))) ** 0.5)
