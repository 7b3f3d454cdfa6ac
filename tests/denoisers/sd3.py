"""Networks of `pag.families.sd3`."""

from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT, IP_TOKENS = 5, 4


CONFIG: dict[str, Any] = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 16,
    "out_channels": 4,
    "pos_embed_max_size": 16,
}


def make(**config: Any) -> SD3Transformer2DModel:
    """A network; without arguments one of Stable Diffusion 3.0."""
    return SD3Transformer2DModel(**(CONFIG | config))


def with_ip_adapter(**config: Any) -> SD3Transformer2DModel:
    """A network with an IP-Adapter: attention to an image in the attention modules themselves."""
    model = make(**config)
    projection = IPAdapterTimeImageProjection(
        embed_dim=16, output_dim=16, hidden_dim=64, heads=1, num_queries=IP_TOKENS, timestep_in_dim=16
    )
    # A file of an IP-Adapter names the fused projections in its own way.
    layers = {
        f"{index}.{name}": tensor
        for index in range(len(model.attn_processors))
        for name, tensor in SD3IPAdapterJointAttnProcessor2_0(16, 16, 8, 64).state_dict().items()
    }
    model._load_ip_adapter_weights(  # pyright: ignore[reportPrivateUsage]
        {"ip_adapter": layers, "image_proj": projection.state_dict()}, low_cpu_mem_usage=False
    )
    return model


def ip_image(queries: int, keys: int) -> tuple[slice, int]:
    """The image comes first among queries and keys, ahead of the text or of the other image."""
    return slice(0, 16), 0


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "pooled_projections": randn(generator, rows, 16),
        "timestep": torch.full((rows,), 500.0),
    }


def _ip_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    image = {"ip_adapter_image_embeds": randn(generator, rows, 3, 16)}
    return _inputs(rows, generator) | {"joint_attention_kwargs": image}


_UNCOND = ("encoder_hidden_states", "pooled_projections")

NETWORKS = {
    "sd3": Network(
        make,
        _inputs,
        ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
        slice(0, 16),
        uncond=_UNCOND,
    ),
    "sd35": Network(
        lambda: make(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        _inputs,
        ("transformer_blocks.1.attn", "transformer_blocks.1.attn2", "transformer_blocks.2.attn"),
        {
            "transformer_blocks.1.attn": slice(0, 16),
            "transformer_blocks.1.attn2": None,
            "transformer_blocks.2.attn": slice(0, 16),
        },
        uncond=_UNCOND,
    ),
    "sd3: IP-Adapter": Network(
        with_ip_adapter,
        _ip_inputs,
        ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
        ip_image,
        uncond=(*_UNCOND, "joint_attention_kwargs"),
    ),
    "sd35: IP-Adapter": Network(
        lambda: with_ip_adapter(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        _ip_inputs,
        ("transformer_blocks.1.attn", "transformer_blocks.1.attn2", "transformer_blocks.2.attn"),
        ip_image,
        uncond=(*_UNCOND, "joint_attention_kwargs"),
    ),
}
