"""Tiny random networks and pipelines, built from configurations: no hub, no files, a fraction of a second each."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

TEXT = 16
"""Width of the text embeddings."""
TOKENS = 5
"""Length of a prompt."""
SIZE = 16
"""Height and width of the latents."""

_SD: dict[str, Any] = {
    "sample_size": SIZE,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": TEXT,
}
_UPSCALER: dict[str, Any] = {
    "in_channels": 7,
    "num_class_embeds": 1000,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "only_cross_attention": (True, True, False),
}
_LATENT_UPSCALER: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 5,
    "down_block_types": ("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
    "mid_block_type": None,
    "up_block_types": (*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
    "block_out_channels": (32, 32, 64, 64),
    "only_cross_attention": False,
    "act_fn": "gelu",
    "attention_head_dim": 8,
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "time_cond_proj_dim": 128 + TEXT,
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "resnet_time_scale_shift": "scale_shift",
    "norm_num_groups": None,
}
_XL: dict[str, Any] = {
    "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": TEXT + 6 * 4,
}
_ADDED_KEYS: dict[str, Any] = {
    "out_channels": 8,
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 8,
    "encoder_hid_dim": TEXT,
}
_IF: dict[str, Any] = _ADDED_KEYS | {
    "in_channels": 3,
    "out_channels": 6,
    "cross_attention_dim": 64,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "act_fn": "gelu",
    "time_embedding_act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.4,
}
_KANDINSKY22: dict[str, Any] = _ADDED_KEYS | {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "sd2": {"use_linear_projection": True, "attention_head_dim": (2, 2, 4), "upcast_attention": True},
    "sdxl": _XL,
    "sdxl_inpaint": _XL | {"in_channels": 9},
    "sdxl_pix2pix": _XL | {"in_channels": 8},
    "kolors": _XL | {"encoder_hid_dim": TEXT, "encoder_hid_dim_type": "text_proj"},
    "upscaler": _UPSCALER,
    "pix2pix": {"in_channels": 8},
    "intrinsics": {"in_channels": 12, "out_channels": 8},
    "inpaint": {"in_channels": 9},
    "depth": {"in_channels": 5},
    "unclip": {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2 * TEXT},
    "lcm": {"time_cond_proj_dim": 8},
    "latent_upscaler": _LATENT_UPSCALER,
    "if": _IF,
    "if_upscaler": _IF | {"in_channels": 6, "class_embed_type": "timestep"},
    "kandinsky": _ADDED_KEYS | {"encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image"},
    "kandinsky_inpaint": _ADDED_KEYS
    | {"in_channels": 9, "encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image"},
    "kandinsky22": _KANDINSKY22,
    "kandinsky22_inpaint": _KANDINSKY22 | {"in_channels": 9},
    "kandinsky22_hint": _KANDINSKY22 | {"in_channels": 8, "addition_embed_type": "image_hint"},
}
"""What each kind of U-Net has beyond Stable Diffusion 1.x: three levels, attention at two."""

CONTRACT = ("sd15", "sd2", "sdxl", "upscaler", "pix2pix", "inpaint", "lcm", "latent_upscaler")
"""The kinds that the laws are tested on: every one that differs in more than its input channels."""


SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""The U-Net of Stable Diffusion XL at its full size."""


def unet_config(kind: str) -> dict[str, Any]:
    """The configuration of a kind of U-Net."""
    return _SD | UNETS[kind]


def unet(kind: str = "sd15", **config: Any) -> UNet2DConditionModel:
    """A new U-Net; the same weights every time. Its layers are strong enough to be seen through the noise."""
    torch.manual_seed(1)
    model = UNet2DConditionModel(**(unet_config(kind) | config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".to_v.weight", ".to_out.0.weight", ".to_q.weight", ".to_k.weight")):
                parameter.mul_(2)
    return model


def inputs(model: UNet2DConditionModel, rows: int, *, seed: int = 0) -> dict[str, Any]:
    """Arguments of ``forward`` for rows that all differ."""
    generator = torch.Generator().manual_seed(seed)
    config = cast(Any, model.config)

    def random(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=generator)

    arguments: dict[str, Any] = {
        "sample": random(config.in_channels, SIZE, SIZE),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": random(TOKENS, TEXT),
    }
    if config.num_class_embeds is not None:
        arguments["class_labels"] = torch.randint(0, 1000, (rows,), generator=generator)
    if config.time_cond_proj_dim is not None:
        arguments["timestep_cond"] = random(config.time_cond_proj_dim)
    if config.addition_embed_type == "text_time":
        time_ids = torch.randint(0, 64, (rows, 6), generator=generator).float()
        arguments["added_cond_kwargs"] = {"text_embeds": random(TEXT), "time_ids": time_ids}
    if config.class_embed_type == "timestep":
        arguments["class_labels"] = torch.randint(0, 1000, (rows,), generator=generator)
    if config.addition_embed_type in ("text_image", "image", "image_hint"):
        arguments["added_cond_kwargs"] = {"image_embeds": random(TEXT)}
    if config.addition_embed_type == "text_image":
        arguments["added_cond_kwargs"]["text_embeds"] = random(TEXT)
    if config.addition_embed_type == "image_hint":
        arguments["sample"] = random(config.in_channels - 4, SIZE, SIZE)
        arguments["added_cond_kwargs"]["hint"] = random(3, 8 * SIZE, 8 * SIZE)
    if config.encoder_hid_dim_type == "image_proj":
        arguments["encoder_hidden_states"] = None
    return arguments


def vae(**config: Any) -> AutoencoderKL:
    """An autoencoder that halves height and width."""
    torch.manual_seed(2)
    tiny: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 2 * SIZE,
    }
    return AutoencoderKL(**(tiny | config)).eval()


def controlnet(seed: int = 3, kind: str = "sd15", cls: type = ControlNetModel, **config: Any) -> ControlNetModel:
    """A ControlNet for a kind of U-Net whose output is not zero, as a new one's would be."""
    torch.manual_seed(seed)
    known = inspect.signature(cls).parameters
    like_unet = {name: value for name, value in (_SD | UNETS[kind]).items() if name in known}
    model = cls(**(like_unet | {"in_channels": 4, "conditioning_embedding_out_channels": (8, 8)} | config))
    with torch.no_grad():
        for parameter in (*model.controlnet_down_blocks.parameters(), *model.controlnet_mid_block.parameters()):
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def text_encoder() -> CLIPTextModel:
    """A text encoder for the vocabulary of :func:`tokenizer`."""
    torch.manual_seed(4)
    config = CLIPTextConfig(
        vocab_size=len(_VOCABULARY),
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config).eval()


_LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
_VOCABULARY = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]


def tokenizer() -> CLIPTokenizer:
    """A tokenizer of single letters."""
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(_VOCABULARY)}, merges=[], model_max_length=8)


def ddim(**config: Any) -> DDIMScheduler:
    """A scheduler without noise between the steps."""
    stable_diffusion: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    return DDIMScheduler(**(stable_diffusion | config))


_KOLORS = {
    "KolorsPipeline": "kolors.pipeline_kolors",
    "KolorsImg2ImgPipeline": "kolors.pipeline_kolors_img2img",
    "KolorsPAGPipeline": "pag.pipeline_pag_kolors",
}
"""diffusers hides these where sentencepiece is missing, which only their tokenizer needs."""


def pipeline_class(name: str) -> type[DiffusionPipeline]:
    """A pipeline class of diffusers."""
    if name not in _KOLORS:
        return getattr(diffusers, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
        return getattr(import_module(f"diffusers.pipelines.{_KOLORS[name]}"), name)


def pipeline(cls: str = "StableDiffusionPipeline", kind: str = "sd15", **components: Any) -> Any:
    """A pipeline of diffusers on tiny networks, without tokenizer and text encoder unless they are given."""
    pipe_class = pipeline_class(cls)
    accepted, optional = DiffusionPipeline._get_signature_keys(pipe_class)  # pyright: ignore
    parts: dict[str, Any] = dict.fromkeys([*accepted, *optional])
    parts |= {"unet": unet(kind), "vae": vae(), "scheduler": ddim(), "requires_safety_checker": False}
    parts |= {"low_res_scheduler": DDPMScheduler(), "max_noise_level": 350, "pag_applied_layers": "mid"} | components
    pipe = cast(Any, pipe_class)(**{name: part for name, part in parts.items() if name in {*accepted, *optional}})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompts(count: int = 1, *, seed: int = 5) -> dict[str, Any]:
    """Embeddings of prompts and negative prompts."""
    generator = torch.Generator().manual_seed(seed)
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {name: torch.randn(count, TOKENS, TEXT, generator=generator) for name in names}


def pooled(count: int = 1, *, seed: int = 6) -> dict[str, Any]:
    """Pooled embeddings, as SDXL wants on top."""
    generator = torch.Generator().manual_seed(seed)
    names = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return {name: torch.randn(count, TEXT, generator=generator) for name in names}


def picture(count: int = 1, channels: int = 3, size: int = 2 * SIZE, *, seed: int = 7) -> Tensor:
    """Images with values from 0 to 1."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def sample(pipe: Any, *, seeds: Sequence[int] = (0,), steps: int = 3, **arguments: Any) -> Tensor:
    """The final latents of a run; one image for each seed."""
    defaults: dict[str, Any] = {"num_inference_steps": steps, "output_type": "latent", "guidance_scale": 4.0}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    output = pipe(**(defaults | {"generator": generators} | arguments))
    return output.frames if "frames" in output else output.images


def difference(one: Any, other: Any) -> float:
    """The largest difference, relative to the largest value."""
    one, other = torch.as_tensor(one).double(), torch.as_tensor(other).double()
    return float((one - other).abs().max() / other.abs().max())


def state_of(model: nn.Module) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of every module: what must be back when guidance is off."""
    return {name: dict(vars(module)) for name, module in model.named_modules()}


def ip_adapter(model: UNet2DConditionModel) -> dict[str, Any]:
    """Weights of an IP-Adapter, as a file of it holds them."""
    torch.manual_seed(9)
    layers: dict[str, Tensor] = {}
    number = 1
    for name in model.attn_processors:
        to_text = name.endswith("attn2.processor") and "motion_modules" not in name
        if to_text:
            width = cast(Any, model.get_submodule(name.removesuffix(".processor"))).to_k.out_features
            layers[f"{number}.to_k_ip.weight"] = torch.randn(width, TEXT)
            layers[f"{number}.to_v_ip.weight"] = torch.randn(width, TEXT)
        number += to_text * 2
    tokens = 4
    projection = {
        "proj.weight": torch.randn(tokens * TEXT, TEXT) / 4,
        "proj.bias": torch.randn(tokens * TEXT),
        "norm.weight": torch.ones(TEXT),
        "norm.bias": torch.zeros(TEXT),
    }
    return {"image_proj": projection, "ip_adapter": layers}


def image_encoder() -> CLIPVisionModelWithProjection:
    """An image encoder of the text's width."""
    torch.manual_seed(10)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=TEXT,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=30,
        patch_size=15,
    )
    return CLIPVisionModelWithProjection(config).eval()


def feature_extractor() -> Any:
    """What brings a picture to the size of :func:`image_encoder`."""
    # The one that needs no torchvision got a name of its own in the course of transformers 5.
    cls = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    return cls(size=30, crop_size=30)
