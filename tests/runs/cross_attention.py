"""Runs on networks of `pag.families.cross_attention`."""

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanDiT2DControlNetModel

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


def _lumina(name: str, network: str) -> Any:
    transformer = strong(NETWORKS[network].make)
    return pipeline(name, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler())


def _lumina_arguments(**arguments: Any) -> dict[str, Any]:
    return masked_embeddings() | {"height": 64, "width": 64} | arguments


def _latte() -> Any:
    return pipeline("LattePipeline", transformer=strong(NETWORKS["latte"].make), scheduler=zoo.ddim())


def _latte_arguments() -> dict[str, Any]:
    given = {name: value for name, value in masked_embeddings().items() if not name.endswith("mask")}
    return given | {"height": 32, "width": 32, "video_length": 3, "clean_caption": False}


def _allegro() -> Any:
    return pipeline("AllegroPipeline", transformer=strong(NETWORKS["allegro"].make), scheduler=zoo.ddim())


def _allegro_arguments() -> dict[str, Any]:
    return masked_embeddings() | {"height": 32, "width": 32, "num_frames": 12, "clean_caption": False}


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
    "LuminaPipeline": Run(
        lambda: _lumina("LuminaPipeline", "lumina next"),
        lambda: _lumina_arguments(clean_caption=False),
        "layers.1.attn1",
        groups={2: (2, 0)},
        variance=True,
    ),
    "LuminaPipeline: no CFG": Run(
        lambda: _lumina("LuminaPipeline", "lumina next"),
        lambda: _lumina_arguments(clean_caption=False, guidance_scale=1.0),
        "layers.1.attn1",
        variance=True,
    ),
    "Lumina2Pipeline": Run(
        lambda: _lumina("Lumina2Pipeline", "lumina 2"),
        _lumina_arguments,
        "layers.1.attn",
        slice(TEXT, TEXT + 16),
        calls=("cond", "uncond"),
        g=4.0,
        norm=True,
    ),
    "Lumina2Pipeline: no normalization": Run(
        lambda: _lumina("Lumina2Pipeline", "lumina 2"),
        lambda: _lumina_arguments(cfg_normalization=False),
        "layers.1.attn",
        slice(TEXT, TEXT + 16),
        calls=("cond", "uncond"),
    ),
    "Lumina2Pipeline: no CFG": Run(
        lambda: _lumina("Lumina2Pipeline", "lumina 2"),
        lambda: _lumina_arguments(guidance_scale=1.0),
        "layers.1.attn",
        slice(TEXT, TEXT + 16),
    ),
    # Only the first of two steps has CFG, in which there is nothing to see of it but the formula.
    "Lumina2Pipeline: truncated": Run(
        lambda: _lumina("Lumina2Pipeline", "lumina 2"),
        lambda: _lumina_arguments(cfg_trunc_ratio=0.5, cfg_normalization=False),
        "layers.1.attn",
        slice(TEXT, TEXT + 16),
        calls=("cond", "uncond", "cond"),
    ),
    "LattePipeline": Run(_latte, _latte_arguments, PATH, variance=True),
    "AllegroPipeline": Run(_allegro, _allegro_arguments, PATH),
}
