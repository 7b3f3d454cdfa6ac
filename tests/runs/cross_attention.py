"""Runs on networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import HunyuanDiT2DControlNetModel

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline
from tests.runs.class_conditional import vae

TEXT = 5


def masked_embeddings(*names: str, width: int = 16) -> dict[str, Any]:
    """Embeddings of a prompt, with a mask, and of a negative prompt of another length."""
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"negative_prompt": None}
    for name, length in zip(("prompt", "negative_prompt"), (TEXT, TEXT - 2), strict=True):
        given[f"{name}_embeds"] = torch.randn(1, TEXT, width, generator=generator)
        given[f"{name}_attention_mask"] = (torch.arange(TEXT) < length).long()[None]
    return given


def _pixart(name: str, network: str) -> Any:
    return pipeline(name, transformer=strong(NETWORKS[network].make), scheduler=zoo.ddim())


def _pixart_arguments(**arguments: Any) -> dict[str, Any]:
    size = {"height": 64, "width": 64, "use_resolution_binning": False, "clean_caption": False}
    return masked_embeddings() | size | arguments


def _hunyuan(name: str, **components: Any) -> Any:
    transformer = strong(NETWORKS["hunyuan dit"].make)
    scheduler = zoo.ddim()
    return pipeline(name, transformer=transformer, scheduler=scheduler, requires_safety_checker=False, **components)


def _hunyuan_controlnet() -> HunyuanDiT2DControlNetModel:
    return HunyuanDiT2DControlNetModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        hidden_size=16,
        transformer_num_layers=4,
        mlp_ratio=2.0,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=16,
        text_len=5,
        text_len_t5=4,
    )


def _hunyuan_arguments(**arguments: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(6)
    given = masked_embeddings() | {"height": 64, "width": 64, "use_resolution_binning": False}
    for name, length in zip(("prompt", "negative_prompt"), (4, 2), strict=True):
        given[f"{name}_embeds_2"] = torch.randn(1, 4, 16, generator=generator)
        given[f"{name}_attention_mask_2"] = (torch.arange(4) < length).long()[None]
    return given | arguments


PATH = "transformer_blocks.1.attn1"

RUNS = {
    "PixArtAlphaPipeline": Run(lambda: _pixart("PixArtAlphaPipeline", "pixart: sizes"), _pixart_arguments, PATH),
    "PixArtSigmaPipeline": Run(
        lambda: _pixart("PixArtSigmaPipeline", "pixart"), _pixart_arguments, PATH, variance=True
    ),
    "PixArtSigmaPipeline: no CFG": Run(
        lambda: _pixart("PixArtSigmaPipeline", "pixart"),
        lambda: _pixart_arguments(guidance_scale=1.0),
        PATH,
        variance=True,
    ),
    "HunyuanDiTPipeline": Run(
        lambda: _hunyuan("HunyuanDiTPipeline"), _hunyuan_arguments, "blocks.2.attn1", variance=True
    ),
    "HunyuanDiTPipeline: no CFG": Run(
        lambda: _hunyuan("HunyuanDiTPipeline"),
        lambda: _hunyuan_arguments(guidance_scale=1.0),
        "blocks.2.attn1",
        variance=True,
    ),
    "HunyuanDiTControlNetPipeline": Run(
        lambda: _hunyuan("HunyuanDiTControlNetPipeline", controlnet=strong(_hunyuan_controlnet), vae=vae(levels=4)),
        lambda: _hunyuan_arguments(control_image=torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(7))),
        "blocks.2.attn1",
        variance=True,
    ),
}
