"""Transformers of images of a class: DiT."""

from typing import Any

import torch

from pag.families._family import ROWS, Convention, Family
from pag.families._sites import transformer_sites


def _dit_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, config.sample_size, config.sample_size, device=device),
        "timestep": torch.ones(rows, dtype=torch.long, device=device),
        "class_labels": torch.zeros(rows, dtype=torch.long, device=device),
    }


DIT = Family(
    models=("DiTTransformer2DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_dit_example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("pos_embed", "transformer_blocks"),
    row_arguments=ROWS,
    variance=lambda model: model.config.out_channels == 2 * model.config.in_channels,
    degradable=True,
    convention=Convention(("cond", "uncond"), on_above=1.0),
)

FAMILIES = (DIT,)
