"""Relatives of Flux: Chroma, AuraFlow, LongCat-Image, Ovis-Image, Bria and Bria's Fibo."""

from collections.abc import Callable
from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import transformer_sites
from pag.families.flux import NO_SETTING, SITES, image

TWO_CALLS = Convention(calls=("cond", "uncond"))
"""Two calls a step, the prompt's first."""

_STACKS = ("transformer_blocks", "single_transformer_blocks")
_REGISTERS = 8
"""Learned tokens that AuraFlow puts ahead of the text."""


def _example(text: int, ids: int = 3, **more: Callable[[Any, int], Any]) -> Callable[[Any, int], dict[str, Any]]:
    """One call's arguments for an image of 4096 tokens: 1024×1024 pixels."""

    def example(model: Any, rows: int) -> dict[str, Any]:
        config, device = model.config, model.device
        return {
            "hidden_states": torch.empty(rows, 4096, config.in_channels, device=device),
            "encoder_hidden_states": torch.empty(rows, text, config.joint_attention_dim, device=device),
            "timestep": torch.ones(rows, device=device),
            "img_ids": torch.zeros(4096, ids, device=device),
            "txt_ids": torch.zeros(text, ids, device=device),
        } | {name: make(model, rows) for name, make in more.items()}

    return example


def _text_layers(model: Any, rows: int) -> list[torch.Tensor]:
    config = model.config
    layer = torch.empty(rows, 1024, config.text_encoder_dim, device=model.device)
    return [layer] * (config.num_layers + config.num_single_layers)


def _aura_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    size = config.sample_size
    return {
        "hidden_states": torch.empty(rows, config.in_channels, size, size, device=device),
        "encoder_hidden_states": torch.empty(rows, 256, config.joint_attention_dim, device=device),
        "timestep": torch.ones(rows, device=device),
    }


def _aura_image(attending: Attending) -> slice:
    joint = attending.inputs.get("encoder_hidden_states")
    text = attending.text() if joint is not None else attending.text() + _REGISTERS
    return slice(text, attending.queries)


def _gist_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    bundles = 1 + len(config.injection_layer_ids)
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 128, 128, device=device),
        "encoder_hidden_states": torch.empty(rows, bundles, 1024, config.cap_feat_dim, device=device),
        "timestep": torch.ones(rows, device=device),
    }


def _gist_image(attending: Attending) -> slice:
    """The gist of the text comes first, or last where rows with different numbers of gist tokens are padded."""
    patch = attending.config.patch_size**2
    images = [attending.call["hidden_states"], *(attending.call.get("context_latents") or [])]
    tokens = sum(one.shape[2] * one.shape[3] // patch for one in images)
    start = 0 if attending.inputs.get("attention_mask") is not None else attending.queries - tokens
    return slice(start, start + tokens)


CHROMA = Family(
    models=("ChromaTransformer2DModel",),
    sites=SITES,
    example=_example(512),
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "time_text_embed", "distilled_guidance_layer", "context_embedder", *_STACKS),
    row_arguments=(
        *ROWS,
        "controlnet_block_samples",
        "controlnet_single_block_samples",
        "joint_attention_kwargs.ip_adapter_image_embeds",
        "joint_attention_kwargs.ip_hidden_states",
    ),
    image=image,
    convention=TWO_CALLS,
)

AURA_FLOW = Family(
    models=("AuraFlowTransformer2DModel",),
    sites=transformer_sites("joint_transformer_blocks", "single_transformer_blocks", names=("double", "single")),
    example=_aura_example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("pos_embed", "time_step_proj", "context_embedder", "joint_transformer_blocks", "single_transformer_blocks"),
    image=_aura_image,
)

LONG_CAT = Family(
    models=("LongCatImageTransformer2DModel",),
    sites=SITES,
    example=_example(512),
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "time_embed", "context_embedder", *_STACKS),
    image=image,
    convention=TWO_CALLS,
    conventions={"LongCatImagePipeline": Convention(calls=("cond", "uncond"), norm=True)},
)

OVIS = Family(
    models=("OvisImageTransformer2DModel",),
    sites=SITES,
    example=_example(256),
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "timestep_embedder", "context_embedder_norm", "context_embedder", *_STACKS),
    image=image,
    convention=TWO_CALLS,
)

BRIA = Family(
    models=("BriaTransformer2DModel",),
    sites=SITES,
    example=_example(128),
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "time_embed", "context_embedder", *_STACKS),
    row_arguments=(*ROWS, "controlnet_block_samples", "controlnet_single_block_samples"),
    image=image,
    # Its `normalize` brings the result to the standard deviation of the prompt's prediction.
    convention=Convention(formula=None, norm=True),
)

FIBO = Family(
    models=("BriaFiboTransformer2DModel",),
    sites=SITES,
    example=_example(1024, text_encoder_layers=_text_layers),
    layers=0.25,
    scale=3.0,
    source=NO_SETTING,
    trunk=("x_embedder", "time_embed", "context_embedder", "caption_projection", *_STACKS),
    row_arguments=(*ROWS, "text_encoder_layers", "joint_attention_kwargs.attention_mask"),
    image=image,
    convention=Convention(on_above=1.0),
)

FIBO_2 = Family(
    models=("BriaFibo2Transformer2DModel",),
    sites=transformer_sites("noise_refiner", "layers", names=("refiner", "main")),
    example=_gist_example,
    layers=0.5,
    scale=3.0,
    source="no published setting: the middle block, by analogy with arXiv 2403.17377",
    trunk=("x_embedder", "t_embedder", "noise_refiner", "perceiver", "layers"),
    row_arguments=(*ROWS, "context_latents"),
    image=_gist_image,
    convention=TWO_CALLS,
)

FAMILIES = (CHROMA, AURA_FLOW, LONG_CAT, OVIS, BRIA, FIBO, FIBO_2)
