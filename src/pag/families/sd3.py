"""Stable Diffusion 3 and 3.5: joint attention of the image and the text."""

from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites


def image(attending: Attending) -> slice:
    """The image comes first, ahead of the text or of the image of an IP-Adapter, or is alone."""
    return slice(0, attending.inputs["hidden_states"].shape[1])


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments at the size that the model was trained for, with CLIP's 77 and T5's 256 text tokens."""
    config, device = model.config, model.device
    size = config.sample_size
    return {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(rows, 333, config.joint_attention_dim, device=device),
        "pooled_projections": torch.empty(rows, config.pooled_projection_dim, device=device),
        "timestep": torch.ones(rows, device=device),
    }


SD3 = Family(
    models=("SD3Transformer2DModel",),
    sites=transformer_sites("transformer_blocks", ends=r"\.attn2?$"),
    example=example,
    layers=0.55,
    scale=3.0,
    source="diffusers pull request #8861: block 13 of the 24 of SD3 medium",
    degradable=True,
    trunk=("pos_embed", "time_text_embed", "context_embedder", "transformer_blocks"),
    row_arguments=(
        *ROWS,
        "block_controlnet_hidden_states",
        "joint_attention_kwargs.ip_adapter_image_embeds",
        "joint_attention_kwargs.ip_hidden_states",
        "joint_attention_kwargs.temb",
    ),
    image=image,
    shift=lambda attending: 0,
    aside=("skip_layers",),
    convention=Convention(unless="skip_guidance_layers"),
)

FAMILIES = (SD3,)
