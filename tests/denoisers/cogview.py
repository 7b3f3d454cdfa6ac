"""Networks of `pag.families.cogview`."""

from typing import Any

import torch
from diffusers import CogView3PlusTransformer2DModel, CogView4Transformer2DModel
from diffusers.models.transformers.transformer_glm_image import GlmImageTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
PATHS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")
_TINY: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "text_embed_dim": 16,
    "time_embed_dim": 16,
    "condition_dim": 8,
}


def make_3() -> CogView3PlusTransformer2DModel:
    return CogView3PlusTransformer2DModel(pos_embed_max_size=8, sample_size=8, **_TINY)


def make_4(**config: Any) -> CogView4Transformer2DModel:
    return CogView4Transformer2DModel(sample_size=8, rope_axes_dim=(8, 8), **(_TINY | config))


def make_glm() -> GlmImageTransformer2DModel:
    return GlmImageTransformer2DModel(prior_vq_quantizer_codebook_size=8, **_TINY)


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 500.0),
        "original_size": torch.full((rows, 2), 8.0),
        "target_size": torch.full((rows, 2), 8.0),
        "crop_coords": torch.zeros(rows, 2),
    }


def _padded(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT)
    mask[0, 3:] = 0
    return _inputs(rows, generator) | {"attention_mask": mask}


def _with_prior(rows: int, generator: Generator) -> dict[str, Any]:
    inputs = _inputs(rows, generator)
    del inputs["original_size"]
    tokens = torch.randint(8, (rows, 16), generator=generator)
    return inputs | {"prior_token_id": tokens, "prior_token_drop": torch.zeros(rows, 16, dtype=torch.bool)}


_IMAGE = slice(TEXT, TEXT + 16)

NETWORKS = {
    "cogview3": Network(make_3, _inputs, PATHS, _IMAGE),
    "cogview4": Network(make_4, _inputs, PATHS, _IMAGE),
    "cogview4 padded": Network(make_4, _padded, PATHS, _IMAGE),
    "cogview4 control": Network(
        lambda: make_4(in_channels=8),
        lambda rows, generator: _inputs(rows, generator) | {"hidden_states": randn(generator, rows, 8, 8, 8)},
        PATHS,
        _IMAGE,
    ),
    "glm-image": Network(
        make_glm,
        _with_prior,
        PATHS,
        _IMAGE,
        uncond=("encoder_hidden_states", "prior_token_id", "prior_token_drop"),
        xfail={"cost": "the network selects tokens by a mask, which a tensor without data cannot tell"},
    ),
}
