"""Networks of `pag.families.flux`."""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
IDS = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))


CONFIG: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 4,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 4, 8),
    "guidance_embeds": True,
}


def make(**config: Any) -> FluxTransformer2DModel:
    """A network; without arguments one of Flux.1-dev."""
    return FluxTransformer2DModel(**(CONFIG | config))


def with_ip_adapter() -> FluxTransformer2DModel:
    """A network whose first stack also attends to an image, in the attention modules themselves."""
    model = make()
    layers = {
        f"{index}.{name}": tensor
        for index in range(2)
        for name, tensor in {
            "to_k_ip.weight": torch.randn(32, 16) / 4,
            "to_v_ip.weight": torch.randn(32, 16) / 4,
            "to_k_ip.bias": torch.randn(32) / 4,
            "to_v_ip.bias": torch.randn(32) / 4,
        }.items()
    }
    projection = {
        "proj.weight": torch.randn(4 * 16, 16) / 4,
        "proj.bias": torch.randn(4 * 16) / 4,
        "norm.weight": torch.ones(16),
        "norm.bias": torch.zeros(16),
    }
    state = {"ip_adapter": layers, "image_proj": projection}
    model._load_ip_adapter_weights(state, low_cpu_mem_usage=False)  # pyright: ignore
    return model


def image(queries: int, keys: int) -> tuple[slice, int] | None:
    """The text comes first; attention from the image's 16 tokens alone is to the image of an IP-Adapter."""
    return None if queries == 16 else (slice(TEXT, queries), 0)


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "pooled_projections": randn(generator, rows, 16),
        "timestep": torch.full((rows,), 0.5),
        "guidance": torch.full((rows,), 3.5),
        "img_ids": IDS,
        "txt_ids": torch.zeros(TEXT, 3),
    }


def _ip_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    # Six images of four tokens each, so that there are more keys than queries.
    embeddings = {"ip_adapter_image_embeds": [randn(generator, rows, 6, 16)]}
    return _inputs(rows, generator) | {"joint_attention_kwargs": embeddings}


def _no_guidance(rows: int, generator: Generator) -> dict[str, Any]:
    return {name: value for name, value in _inputs(rows, generator).items() if name != "guidance"}


_PATHS = ("transformer_blocks.1.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")
_TABLES = ("img_ids", "txt_ids")
_UNCOND = ("encoder_hidden_states", "pooled_projections")

NETWORKS = {
    "flux": Network(make, _inputs, _PATHS, slice(TEXT, TEXT + 16), _TABLES, uncond=_UNCOND),
    "flux: schnell": Network(
        lambda: make(guidance_embeds=False), _no_guidance, _PATHS, slice(TEXT, TEXT + 16), _TABLES, uncond=_UNCOND
    ),
    "flux: IP-Adapter": Network(
        with_ip_adapter,
        _ip_inputs,
        ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn"),
        image,
        _TABLES,
        uncond=(*_UNCOND, "joint_attention_kwargs"),
    ),
}
