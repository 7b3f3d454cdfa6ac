"""Networks of `pag.families.single_stream`."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import OmniGenTransformer2DModel, PRXTransformer2DModel, ZImageTransformer2DModel
from diffusers.models.transformers.transformer_ernie_image import ErnieImageTransformer2DModel
from diffusers.models.transformers.transformer_ideogram4 import (
    LLM_TOKEN_INDICATOR,
    OUTPUT_IMAGE_INDICATOR,
    Ideogram4Transformer2DModel,
)
from diffusers.models.transformers.transformer_krea2 import Krea2Transformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

Z_PATHS = ("noise_refiner.0.attention", "layers.0.attention", "layers.1.attention")


def z_image(**config: Any) -> ZImageTransformer2DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "dim": 32,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 16,
        "axes_dims": [4, 6, 6],
        "axes_lens": [256, 32, 32],
    }
    return ZImageTransformer2DModel(**(tiny | config))


def _lists(rows: int, generator: Generator, *lengths: int) -> dict[str, Any]:
    return {
        "x": [randn(generator, 4, 1, 8, 8) for _ in range(rows)],
        "t": torch.full((rows,), 0.5),
        "cap_feats": [randn(generator, (lengths or (5, 5))[row % 2], 16) for row in range(rows)],
    }


def _controlled(rows: int, generator: Generator) -> dict[str, Any]:
    return _lists(rows, generator) | {"controlnet_block_samples": {0: randn(generator, rows, 64, 32)}}


def _omni(rows: int, generator: Generator, *lengths: int) -> dict[str, Any]:
    """An image of 3×3 tokens is a condition of one of 4×4, with a text ahead of each and one after."""
    texts = [[(lengths or (5, 5))[row % 2], 3, 3] for row in range(rows)]
    return {
        "x": [[randn(generator, 4, 1, 6, 6), randn(generator, 4, 1, 8, 8)] for _ in range(rows)],
        "t": torch.full((rows,), 0.5),
        "cap_feats": [[randn(generator, length, 16) for length in each] for each in texts],
        "siglip_feats": [[randn(generator, 2, 2, 8), None] for _ in range(rows)],
        "image_noise_mask": [[0, 1] for _ in range(rows)],
    }


def _in_omni(*starts: int) -> dict[str, Any]:
    slices = [slice(start, start + 16) for start in starts]
    image = slices[0] if len(slices) == 1 else slices
    return {"noise_refiner.0.attention": slice(32, 48), "layers.0.attention": image, "layers.1.attention": image}


TEXT = 5


def ernie() -> ErnieImageTransformer2DModel:
    return ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=3,
        ffn_hidden_size=32,
        in_channels=4,
        out_channels=4,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )


def _ernie_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 4, 4),
        "timestep": torch.full((rows,), 500.0),
        "text_bth": randn(generator, rows, TEXT, 16),
        "text_lens": torch.tensor([3, *[TEXT] * (rows - 1)]),
    }


def krea() -> Krea2Transformer2DModel:
    with warnings.catch_warnings():  # torch warns once of norms of another precision, which are meant here
        warnings.simplefilter("ignore", UserWarning)
        F.rms_norm(torch.zeros(1, 2), (2,), torch.zeros(2, dtype=torch.bfloat16))
    return Krea2Transformer2DModel(
        in_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )


def _krea_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT, dtype=torch.bool)
    mask[0, 3:] = False
    return {
        "hidden_states": randn(generator, rows, 16, 16),
        "encoder_hidden_states": randn(generator, rows, TEXT, 2, 16),
        "timestep": torch.full((rows,), 0.5),
        "position_ids": torch.arange(TEXT + 16)[:, None].repeat(1, 3),
        "encoder_attention_mask": mask,
    }


def prx(**config: Any) -> PRXTransformer2DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "context_in_dim": 16,
        "hidden_size": 16,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 3,
        "axes_dim": [4, 4],
    }
    return PRXTransformer2DModel(**(tiny | config))


def _prx_inputs(rows: int, generator: Generator, channels: int = 4) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT, dtype=torch.bool)
    mask[0, 3:] = False
    return {
        "hidden_states": randn(generator, rows, channels, 8, 8),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "attention_mask": mask,
    }


def ideogram() -> Ideogram4Transformer2DModel:
    return Ideogram4Transformer2DModel(
        in_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=32,
        adaln_dim=16,
        llm_features_dim=16,
        mrope_section=(4, 2, 2),
    )


def _ideogram_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    roles = torch.tensor([[LLM_TOKEN_INDICATOR] * TEXT + [OUTPUT_IMAGE_INDICATOR] * 16] * rows)
    segments = torch.ones(rows, TEXT + 16, dtype=torch.long)
    segments[0, :2], roles[0, :2] = -1, 0  # the filling
    return {
        "hidden_states": randn(generator, rows, TEXT + 16, 16),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, TEXT + 16, 16),
        "position_ids": torch.arange(TEXT + 16)[None, :, None].repeat(rows, 1, 3),
        "segment_ids": segments,
        "indicator": roles,
    }


def omnigen() -> OmniGenTransformer2DModel:
    return OmniGenTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=3,
        pad_token_id=0,
        vocab_size=32,
        rope_scaling={"short_factor": [1.0] * 4, "long_factor": [1.0] * 4},
        pos_embed_max_size=8,
        time_step_dim=16,
    )


def omnigen_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    """Seven tokens of the text and one of the time ahead of the image; the text of the first row is filled up."""
    mask = torch.tril(torch.ones(rows, 7 + 1 + 16, 7 + 1 + 16))
    mask[:, 8:] = 1
    mask[0, :, 0] = 0
    mask[0, 0] = 1
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "timestep": torch.full((rows,), 500.0),
        "input_ids": torch.randint(1, 32, (rows, 7), generator=generator),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": mask,
        "position_ids": torch.arange(24)[None].repeat(rows, 1),
    }


def _layers(name: str = "layers", attention: str = "attention") -> tuple[str, ...]:
    return f"{name}.0.{attention}", f"{name}.2.{attention}"


_AFTER = slice(TEXT, TEXT + 16)
_LISTS = ("x", "cap_feats", "siglip_feats", "image_noise_mask")

NETWORKS = {
    "z-image": Network(z_image, _lists, Z_PATHS, slice(0, 16), row_lists=_LISTS, uncond=("cap_feats",)),
    "z-image padded": Network(
        z_image,
        lambda rows, generator: _lists(rows, generator, 5, 40),
        Z_PATHS,
        slice(0, 16),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
    "z-image control": Network(z_image, _controlled, Z_PATHS, slice(0, 16), row_lists=_LISTS, uncond=("cap_feats",)),
    "z-image omni": Network(
        lambda: z_image(siglip_feat_dim=8),
        _omni,
        Z_PATHS,
        _in_omni(3 * 32 + 32),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
    "z-image omni padded": Network(
        lambda: z_image(siglip_feat_dim=8),
        lambda rows, generator: _omni(rows, generator, 5, 40),
        Z_PATHS[1:],
        _in_omni(3 * 32 + 32, 4 * 32 + 32),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
    "ernie": Network(
        ernie, _ernie_inputs, _layers(attention="self_attention"), slice(0, 16), uncond=("text_bth", "text_lens")
    ),
    "krea": Network(krea, _krea_inputs, _layers("transformer_blocks", "attn"), _AFTER, tables=("position_ids",)),
    "prx": Network(prx, _prx_inputs, _layers("blocks")),
    "prx pixel": Network(
        lambda: prx(in_channels=3, bottleneck_size=8, resolution_embeds=True),
        lambda rows, generator: _prx_inputs(rows, generator, 3),
        _layers("blocks"),
    ),
    "ideogram": Network(ideogram, _ideogram_inputs, _layers(), _AFTER),
    "omnigen": Network(
        omnigen,
        omnigen_inputs,
        _layers(attention="self_attn"),
        slice(8, 24),
        uncond=("input_ids", "attention_mask"),
        xfail={"cost": "the network asks for the largest position, which a tensor without data does not have"},
    ),
}
