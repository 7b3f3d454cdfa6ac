"""Networks of `pag.families.flux_relatives`."""

from typing import Any

import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    BriaFibo2Transformer2DModel,
    BriaFiboTransformer2DModel,
    BriaTransformer2DModel,
    ChromaTransformer2DModel,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
)
from torch import Generator, Tensor, nn

from tests.denoisers._network import Network, randn
from tests.denoisers.flux import IDS, TEXT
from tests.masked import Image

REGISTERS = 8
CONFIG: dict[str, Any] = {
    "in_channels": 4,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (4, 4, 8),
}


def chroma(**config: Any) -> ChromaTransformer2DModel:
    """A network of Chroma."""
    approximator: dict[str, Any] = {
        "approximator_num_channels": 16,
        "approximator_hidden_dim": 16,
        "approximator_layers": 1,
    }
    return ChromaTransformer2DModel(**(CONFIG | approximator | config))


def aura_flow() -> nn.Module:
    """A network of AuraFlow, with four times four tokens."""
    return AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=32,
        pos_embed_max_size=16,
    )


def long_cat(**config: Any) -> nn.Module:
    """A network of LongCat-Image."""
    return LongCatImageTransformer2DModel(**(CONFIG | config))


def ovis() -> nn.Module:
    """A network of Ovis-Image."""
    return OvisImageTransformer2DModel(**CONFIG, out_channels=4)


def bria() -> nn.Module:
    """A network of Bria 3.2."""
    return BriaTransformer2DModel(**CONFIG)


def fibo() -> nn.Module:
    """A network of Fibo, which reads a layer of the text encoder in each block."""
    return BriaFiboTransformer2DModel(**CONFIG, text_encoder_dim=16)


def fibo_2() -> nn.Module:
    """A network of Fibo 2, with four times four tokens and up to eight tokens of the text's gist."""
    return BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=16,
        injection_layer_ids=(1,),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=2,
        gist_min_text_len=2,
        gist_max_text_len=6,
        axes_dims=(4, 6, 6),
        axes_lens=(32, 16, 16),
    )


def _packed(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_ids": IDS,
        "txt_ids": torch.zeros(TEXT, 3),
    }


def _padding(rows: int, generator: Generator, tokens: int = TEXT) -> Tensor:
    """Which tokens of the text are there: of each row another number, but not none."""
    first = int(torch.randint(tokens, (), generator=generator))
    lengths = torch.tensor([1 + (first + 2 * row) % tokens for row in range(rows)])
    return torch.arange(tokens) < lengths[:, None]


def _with_image(mask: Tensor) -> Tensor:
    return torch.cat([mask, torch.ones(len(mask), 16, dtype=torch.bool)], dim=1)


def _masked(rows: int, generator: Generator) -> dict[str, Any]:
    return _packed(rows, generator) | {"attention_mask": _with_image(_padding(rows, generator))}


def _aura_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
    }


def _fibo_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    layers = [randn(generator, rows, TEXT, 16) for _ in range(4)]
    mask = _with_image(_padding(rows, generator))[:, None, None]
    more = {"text_encoder_layers": layers, "joint_attention_kwargs": {"attention_mask": mask}}
    return _packed(rows, generator) | {"timestep": torch.full((rows,), 500.0)} | more


def _gist_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, 2, 6, 16),
        "timestep": torch.full((rows,), 0.5),
    }


def _padded_gist(rows: int, generator: Generator) -> dict[str, Any]:
    return _gist_inputs(rows, generator) | {"encoder_attention_mask": _padding(rows, generator, 6)}


def _edited(rows: int, generator: Generator) -> dict[str, Any]:
    return _gist_inputs(rows, generator) | {"context_latents": [randn(generator, rows, 4, 4, 8)]}


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_TABLES = ("img_ids", "txt_ids")
_IMAGE = slice(TEXT, TEXT + 16)
_AFTER_REGISTERS = slice(REGISTERS + TEXT, REGISTERS + TEXT + 16)
_GIST = ("noise_refiner.0.attention", "layers.1.attention", "layers.2.attention")
_GIST_IMAGE: dict[str, Image] = {path: slice(8, 24) if "layers" in path else None for path in _GIST}
_PADDED_IMAGE: dict[str, Image] = {path: slice(0, 16) if "layers" in path else None for path in _GIST}
_EDITED_IMAGE: dict[str, Image] = {path: slice(8, 32) if "layers" in path else None for path in _GIST}

NETWORKS = {
    "chroma": Network(chroma, _packed, _PATHS, _IMAGE, _TABLES),
    "chroma: padding": Network(
        chroma, _masked, _PATHS, _IMAGE, _TABLES, uncond=("encoder_hidden_states", "attention_mask")
    ),
    "aura_flow": Network(
        aura_flow,
        _aura_inputs,
        ("joint_transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn"),
        _AFTER_REGISTERS,
    ),
    "long_cat_image": Network(long_cat, _packed, _PATHS, _IMAGE, _TABLES),
    "ovis_image": Network(ovis, _packed, _PATHS, _IMAGE, _TABLES),
    "bria": Network(bria, _packed, _PATHS, _IMAGE, _TABLES),
    "bria_fibo": Network(
        fibo,
        _fibo_inputs,
        _PATHS,
        _IMAGE,
        _TABLES,
        uncond=("encoder_hidden_states", "text_encoder_layers", "joint_attention_kwargs"),
    ),
    "bria_fibo_2": Network(fibo_2, _gist_inputs, _GIST, _GIST_IMAGE),
    "bria_fibo_2: padding": Network(
        fibo_2, _padded_gist, _GIST, _PADDED_IMAGE, uncond=("encoder_hidden_states", "encoder_attention_mask")
    ),
    "bria_fibo_2: images": Network(fibo_2, _edited, _GIST, _EDITED_IMAGE),
}
