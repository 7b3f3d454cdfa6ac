"""Published architectures at full size with random weights, in plain pipelines and in diffusers' PAG pipelines."""

from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor

import pag
from benchmarks.subject import Setting, Subject

Config = dict[str, Any]

_SMALL: Config = {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 2, "layers_per_block": 1}
_XL: Config = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
}
_SMALL_XL: Config = _SMALL | {"block_out_channels": (32, 32, 64), "transformer_layers_per_block": (1, 1, 2)}
XL_CONDITIONS: Config = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SD35_MEDIUM: Config = {
    "sample_size": 128,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
_SMALL_SD35: Config = {
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "caption_projection_dim": 16,
    "dual_attention_layers": (0,),
}
_SMALL_FLUX: Config = {"num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
_SMALL_PIXART: Config = {"num_layers": 4, "num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32}


def sd15(setting: Setting) -> Subject:
    """Stable Diffusion 1.5."""
    parts: dict[str, Any] = {"unet": sd15_unet(setting), "vae": latent_vae(setting), "scheduler": _ddim()}
    return Subject(
        parts["unet"],
        pipeline("StableDiffusionPipeline", parts),
        pipeline("StableDiffusionPAGPipeline", parts, pag_applied_layers="mid"),
        lambda: setting.call(**texts(setting, 77, 768)),
        "mid",
    )


def sd15_controlnet(setting: Setting) -> Subject:
    """Stable Diffusion 1.5 with a ControlNet."""
    small = _SMALL | {"conditioning_embedding_out_channels": (8, 8, 8, 8)}
    controlnet = setting.network(ControlNetModel, {"cross_attention_dim": 768}, small)
    parts: dict[str, Any] = {
        "unet": sd15_unet(setting),
        "controlnet": controlnet,
        "vae": latent_vae(setting),
        "scheduler": _ddim(),
    }
    picture = setting.noise(2, 3, setting.size, setting.size).sigmoid()
    return Subject(
        parts["unet"],
        pipeline("StableDiffusionControlNetPipeline", parts),
        pipeline("StableDiffusionControlNetPAGPipeline", parts, pag_applied_layers="mid"),
        lambda: setting.call(image=picture, **texts(setting, 77, 768)),
        "mid",
    )


def pixart_sigma(setting: Setting) -> Subject:
    """PixArt-Σ, perturbed at the middle block as in diffusers' example."""
    network = pixart_network(setting)
    parts = {"transformer": network, "vae": latent_vae(setting), "scheduler": _ddim()}
    layer = f"blocks.{network.config.num_layers // 2}"
    mask = torch.ones(setting.batch, 300, dtype=torch.long, device=setting.device)
    fixed: Config = {"use_resolution_binning": False, "clean_caption": False, "negative_prompt": None}
    fixed |= {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask}
    return Subject(
        network,
        pipeline("PixArtSigmaPipeline", parts),
        pipeline("PixArtSigmaPAGPipeline", parts, pag_applied_layers=[layer]),
        lambda: setting.call(**texts(setting, 300, 4096), **fixed),
        layer,
    )


def avatars(setting: Setting) -> Subject:
    """The embedded model from prompts to images; its size is its own."""
    parts = pag.demo_pipeline().components
    prompt = "pixel art portrait, long red hair, glasses, blue background"
    call = setting.call(height=64, width=64, output_type="pt", prompt=[prompt] * setting.batch)
    return Subject(
        parts["unet"],
        pipeline("StableDiffusionPipeline", parts),
        pipeline("StableDiffusionPAGPipeline", parts, pag_applied_layers="mid"),
        lambda: call | {"generator": torch.Generator().manual_seed(0)},
        "mid",
        g=3.0,
        s=2.0,
    )


def sdxl(setting: Setting) -> Subject:
    """Stable Diffusion XL."""
    network = setting.network(UNet2DConditionModel, {"sample_size": setting.size // 8} | _XL | XL_CONDITIONS, _SMALL_XL)
    parts: dict[str, Any] = {"unet": network, "vae": latent_vae(setting), "scheduler": EulerDiscreteScheduler()}
    return Subject(
        network,
        pipeline("StableDiffusionXLPipeline", parts, add_watermarker=False),
        pipeline("StableDiffusionXLPAGPipeline", parts, add_watermarker=False, pag_applied_layers="mid"),
        lambda: setting.call(**texts(setting, 77, 2048), **pooled(setting, 1280)),
        "mid",
    )


def sd35_medium(setting: Setting) -> Subject:
    """Stable Diffusion 3.5 medium. diffusers' PAG pipeline cannot perturb its blocks of two attentions."""
    network = setting.network(SD3Transformer2DModel, _SD35_MEDIUM, _SMALL_SD35)
    parts = {
        "transformer": network,
        "vae": latent_vae(setting, 16),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return Subject(
        network,
        pipeline("StableDiffusion3Pipeline", parts),
        None,
        lambda: setting.call(**texts(setting, 333, 4096), **pooled(setting, 2048)),
    )


def flux(setting: Setting) -> Subject:
    """The size of Flux.1 dev, for which diffusers has no PAG pipeline. CFG is a second call of the network."""
    small = _SMALL_FLUX | {"axes_dims_rope": (4, 6, 6)}
    network = setting.network(FluxTransformer2DModel, {"guidance_embeds": True}, small)
    parts = {"transformer": network, "vae": latent_vae(setting, 16), "scheduler": FlowMatchEulerDiscreteScheduler()}
    return Subject(
        network,
        pipeline("FluxPipeline", parts),
        None,
        lambda: setting.call(**texts(setting, 512, 4096), **pooled(setting, 768)),
        cfg="true_cfg_scale",
    )


def sd15_unet(setting: Setting, **config: Any) -> Any:
    """The U-Net of Stable Diffusion 1.5."""
    full: Config = {"sample_size": setting.size // 8, "cross_attention_dim": 768} | config
    return setting.network(UNet2DConditionModel, full, _SMALL)


def pixart_network(setting: Setting) -> Any:
    """The transformer of PixArt-Σ."""
    full: Config = {"sample_size": setting.size // 8, "caption_channels": 4096, "use_additional_conditions": False}
    return setting.network(PixArtTransformer2DModel, full, _SMALL_PIXART)


def pipeline(name: str, parts: dict[str, Any], **options: Any) -> Any:
    """A pipeline by class name, of the components that it knows; the others are None."""
    cls = getattr(diffusers, name)
    expected, optional = DiffusionPipeline._get_signature_keys(cls)  # pyright: ignore[reportPrivateUsage]
    components = {part: parts.get(part) for part in expected if part in parts or part not in optional}
    if "requires_safety_checker" in optional:
        options["requires_safety_checker"] = False
    return cls(**components, **options)


def latent_vae(setting: Setting, channels: int = 4) -> Any:
    """An autoencoder that nobody runs: pipelines ask it how much smaller latents are, and where they belong."""
    sizes: Config = {"block_out_channels": (32,) * 4, "latent_channels": channels, "shift_factor": 0.0}
    sizes |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return setting.network(AutoencoderKL, sizes, {})


def texts(setting: Setting, tokens: int, width: int) -> dict[str, Tensor]:
    """What stands for the embeddings of a prompt and of a negative prompt."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: setting.noise(seed, tokens, width) for seed, name in enumerate(names)}


def pooled(setting: Setting, width: int) -> dict[str, Tensor]:
    """The same as one vector."""
    names = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return {name: setting.noise(seed + 4, width) for seed, name in enumerate(names)}


def _ddim() -> DDIMScheduler:
    return DDIMScheduler(steps_offset=1, clip_sample=False)
