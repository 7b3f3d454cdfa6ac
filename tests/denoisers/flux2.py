"""Networks of `pag.families.flux2`."""

from typing import Any

import torch
from diffusers import Flux2Transformer2DModel, Flux3Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2KVAttnProcessor, Flux2KVParallelSelfAttnProcessor
from torch import Generator

from tests.denoisers._network import Network, randn
from tests.masked import Image

TEXT = 5
IDS = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), torch.zeros(1))


def make(**config: Any) -> Flux2Transformer2DModel:
    """A network; without arguments one of Flux.2-dev."""
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "timestep_guidance_channels": 16,
        "axes_dims_rope": (4, 4, 4, 4),
    }
    return Flux2Transformer2DModel(**(tiny | config))


def klein() -> Flux2Transformer2DModel:
    """A network without embedded guidance."""
    return make(guidance_embeds=False)


def klein_kv() -> Flux2Transformer2DModel:
    """A network whose reference images attend to themselves alone, so that their keys and values can be kept."""
    model = klein()
    processors: dict[str, Any] = {
        name: Flux2KVParallelSelfAttnProcessor() if name.startswith("single") else Flux2KVAttnProcessor()
        for name in model.attn_processors
    }
    model.set_attn_processor(processors)
    return model


def _klein_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_ids": IDS.expand(rows, -1, -1),
        "txt_ids": torch.zeros(rows, TEXT, 4),
    }


def _with_references(rows: int, generator: Generator) -> dict[str, Any]:
    """The first step: there are the keys and values of twelve tokens to be kept."""
    references = {"hidden_states": randn(generator, rows, 12 + 16, 4), "img_ids": torch.cat([torch.ones(12, 4), IDS])}
    return _klein_inputs(rows, generator) | references | {"kv_cache_mode": "extract", "num_ref_tokens": 12}


def _all_but_references(queries: int, keys: int) -> tuple[slice, int] | None:
    return (slice(TEXT, TEXT + 16), 12) if queries == TEXT + 16 else None


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _klein_inputs(rows, generator) | {"guidance": torch.full((rows,), 4.0)}


def flux_3(**config: Any) -> Flux3Transformer2DModel:
    """A network of Flux 3."""
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "cond_in_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "timestep_channels": 16,
        "axes_dims_rope": (4, 4, 4, 4),
    }
    return Flux3Transformer2DModel(**(tiny | config))


def _inputs_3(rows: int, generator: Generator) -> dict[str, Any]:
    return _klein_inputs(rows, generator) | {"img_ids": IDS, "txt_ids": torch.zeros(TEXT, 4)}


def _referring(rows: int, generator: Generator) -> dict[str, Any]:
    images = {"image_cond_hidden_states": randn(generator, rows, 6, 4), "image_cond_ids": torch.ones(6, 4)}
    return _inputs_3(rows, generator) | images | {"target_timestep": torch.full((rows,), 0.25)}


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_TABLES = ("img_ids", "txt_ids")

_PATHS_3 = ("mode_blocks.image.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_IMAGE_3: dict[str, Image] = {path: slice(TEXT, TEXT + 16) if "single" in path else None for path in _PATHS_3}
_REFERRING_IMAGE: dict[str, Image] = {path: slice(TEXT, TEXT + 22) if "single" in path else None for path in _PATHS_3}

NETWORKS = {
    "flux2": Network(make, _inputs, _PATHS, slice(TEXT, TEXT + 16), _TABLES),
    "flux2: klein": Network(klein, _klein_inputs, _PATHS, slice(TEXT, TEXT + 16), _TABLES),
    "flux2: klein, references to be kept": Network(
        klein_kv, _with_references, _PATHS, _all_but_references, (*_TABLES, "num_ref_tokens")
    ),
    "flux3": Network(flux_3, _inputs_3, _PATHS_3, _IMAGE_3, _TABLES),
    "flux3: reference images, flow map": Network(
        lambda: flux_3(flow_map=True),
        _referring,
        _PATHS_3,
        _REFERRING_IMAGE,
        (*_TABLES, "image_cond_ids"),
    ),
}
