"""Denoiser classes that cannot be guided by perturbed self-attention, and why."""

REFUSED: dict[str, str] = {
    "PriorTransformer": "it predicts one token, the embedding of an image, or in Shap-E the weights of a small network "
    "that draws a shape, so no tokens of an image attend to another",
    "SanaWMLTX2RefinerTransformer3DModel": "it refines a finished video in three distilled steps, next to kept keys "
    "and values of earlier frames, which hold no perturbed rows",
    "RFD4ProteinaTransformer": "it predicts a protein, in two parts with a scheduler each, by attention that pairs of "
    "residues steer, and nobody has guided that by perturbing it",
}
