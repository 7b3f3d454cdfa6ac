"""Denoiser classes that cannot be guided by perturbed self-attention, and why."""

REFUSED: dict[str, str] = {
    "PriorTransformer": "it predicts one token, the embedding of an image, so no tokens of an image attend to another",
}
