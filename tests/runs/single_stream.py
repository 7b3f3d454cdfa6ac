"""Runs on networks of `pag.families.single_stream`."""

import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel
from diffusers.pipelines.omnigen import pipeline_omnigen
from diffusers.pipelines.omnigen.processor_omnigen import OmniGenCollator
from PIL import Image
from torch import Tensor

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.single_stream import TEXT
from tests.runs._run import Run, pipeline

COND_FIRST = {1: (1, 0), 2: (2, 0)}


def vae(levels: int = 0) -> AutoencoderKL:
    """An autoencoder that halves the image that many times."""
    torch.manual_seed(2)
    shape: dict[str, Any] = {
        "block_out_channels": (4,) * (levels + 1),
        "down_block_types": ("DownEncoderBlock2D",) * (levels + 1),
        "up_block_types": ("UpDecoderBlock2D",) * (levels + 1),
        "latents_mean": (0.0,) * 4,
        "latents_std": (1.0,) * 4,
    }
    return AutoencoderKL(norm_num_groups=2, latent_channels=4, scaling_factor=1.0, shift_factor=0.0, **shape).eval()


def picture(size: int = 8, mode: str = "RGB") -> Image.Image:
    """An image whose pixels differ."""
    return Image.linear_gradient("L").resize((size, size)).convert(mode)


def _mask(size: int = 8) -> Image.Image:
    mask = Image.new("L", (size, size), 255)
    mask.paste(0, (0, 0, size // 2, size // 2))
    return mask


class Coarse(torch.nn.Module):
    """What stands for an autoencoder of half precision: 8×8 pixels to one latent."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(block_out_channels=(1,) * 4, shift_factor=0.0, scaling_factor=1.0)

    def encode(self, image: Tensor) -> SimpleNamespace:
        """Means over the pixels."""
        latents = F.avg_pool2d(image.float(), 8)[:, [0, 1, 2, 0]]
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))


class Seen(torch.nn.Module):
    """What stands for an image encoder: 2×2 tokens."""

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, **given: Any) -> SimpleNamespace:
        """The same for each image."""
        return SimpleNamespace(last_hidden_state=torch.arange(32.0).reshape(1, 4, 8) / 32)


class Look:
    """What stands for the processor ahead of `Seen`."""

    def __call__(self, images: Any, **given: Any) -> Any:
        """The size in tokens."""
        return Inputs(spatial_shapes=[(2, 2)])


class Inputs(dict[str, Any]):
    """Inputs of `Seen`."""

    spatial_shapes = ((2, 2),)

    def to(self, device: Any) -> "Inputs":
        """Stay."""
        return self


def _z_image(name: str, network: str = "z-image", **components: Any) -> Any:
    return pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        transformer=strong(NETWORKS[network].make),
        **({"vae": vae()} | components),
    )


def _controlled(name: str, channels: int) -> Any:
    control = partial(
        ZImageControlNetModel,
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=channels,
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
    )
    return _z_image(name, controlnet=strong(control))


def _texts(count: int, length: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(length + index, 16, generator=generator) for index in range(count)]


def _arguments(**given: Any) -> dict[str, Any]:
    cond, uncond = _texts(2)
    return {"prompt_embeds": [cond], "negative_prompt_embeds": [uncond], "height": 8, "width": 8} | given


def _omni() -> dict[str, Any]:
    texts = _texts(6)
    cond, uncond = texts[:3], texts[3:]
    sizes = {"height": 64, "width": 64, "image": picture(64)}
    return {"prompt_embeds": [cond], "negative_prompt_embeds": [uncond]} | sizes


def _plain(name: str, network: str, **components: Any) -> Any:
    known: dict[str, Any] = {"scheduler": FlowMatchEulerDiscreteScheduler()}
    return pipeline(name, transformer=strong(NETWORKS[network].make), **(known | components))


def _embeddings(*shape: int, mask: str = "", **given: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    arguments: dict[str, Any] = {}
    for name in ("", "negative_"):
        arguments[f"{name}prompt_embeds"] = torch.randn(1, *shape, generator=generator)
        if mask:
            valid = torch.ones(1, shape[0], dtype=torch.bool)
            valid[0, 3 + len(name) // 9 :] = False
            arguments[f"{name}{mask}"] = valid
    return arguments | given


def _ernie(**given: Any) -> dict[str, Any]:
    cond, uncond = _texts(2, 3)
    return {"prompt_embeds": [cond], "negative_prompt_embeds": [uncond], "height": 64, "width": 64} | given


def _ideogram() -> Any:
    pipe = _plain("Ideogram4Pipeline", "ideogram", unconditional_transformer=strong(partial(_other, "ideogram")))

    def encode(grid_h: int, grid_w: int, max_sequence_length: int, device: Any, **given: Any) -> Any:
        features = torch.randn(1, max_sequence_length + grid_h * grid_w, 16, generator=torch.Generator().manual_seed(5))
        return features, *pipe._prepare_ids([3], grid_h, grid_w, max_sequence_length, device)

    pipe.encode_prompt = encode
    return pipe


def _other(network: str) -> torch.nn.Module:
    """The same network with other weights."""
    torch.manual_seed(9)
    return NETWORKS[network].make()


def _krea() -> Any:
    return _plain("Krea2Pipeline", "krea", scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))


def _prx() -> Any:
    with warnings.catch_warnings():  # its class builds on a deprecated one
        warnings.simplefilter("ignore", FutureWarning)
        return _plain("PRXPipeline", "prx", vae=vae())


class Collated:
    """What stands for OmniGen's processor of texts with images in them: the texts' tokens are given."""

    max_image_size = 1024

    def __call__(self, prompt: Any, input_images: Any, height: int, width: int, **given: Any) -> dict[str, Any]:
        """The prompt's row, that without a prompt and, with images, that of the images alone."""
        collate = OmniGenCollator(pad_token_id=0, hidden_size=16)
        seen = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in input_images[0] or []]
        image = {"pixel_values": seen or None, "image_sizes": [[1, 3]] if seen else None}
        rows = [{"input_ids": [1, 2, 3, 4, 5, 6, 7]} | image, {"input_ids": [1, 2, 3]} | image.fromkeys(image)]
        rows += [{"input_ids": [1, 2, 3, 4]} | image] if seen else []
        ids, positions, mask, _, pixels, sizes = collate.process_mllm_input(rows, [[height, width]] * len(rows))
        return {
            "input_ids": ids,
            "position_ids": positions,
            "attention_mask": mask,
            "input_pixel_values": pixels,
            "input_image_sizes": sizes,
        }


def _omnigen() -> Any:
    # Its own needs torchvision.
    with mock.patch.object(pipeline_omnigen, "OmniGenMultiModalProcessor", create=True, return_value=Collated()):
        return _plain("OmniGenPipeline", "omnigen", vae=vae(3))


def _omnigen_run(**given: Any) -> Run:
    return Run(
        _omnigen,
        lambda: {"prompt": "a picture", "height": 64, "width": 64} | given,
        "layers.1.self_attn",
        slice(8, 24),
        groups={2: (2, 0), 3: (3, 0)},
    )


_PRX: dict[str, Any] = {"mask": "prompt_attention_mask", "use_resolution_binning": False}
_AFTER = slice(TEXT, TEXT + 16)


def _run(name: str, arguments: Any = _arguments, **given: Any) -> Run:
    make = given.pop("make", partial(_z_image, name))
    known: dict[str, Any] = {"image": slice(0, 16), "groups": COND_FIRST}
    return Run(make, arguments, "layers.0.attention", **(known | given))


RUNS = {
    "ZImagePipeline": _run("ZImagePipeline"),
    "ZImagePipeline: no CFG": _run("ZImagePipeline", lambda: _arguments(guidance_scale=0.0)),
    "ZImagePipeline: truncated CFG": _run("ZImagePipeline", lambda: _arguments(cfg_truncation=0.2)),
    "ZImagePipeline: bounded norm": _run(
        "ZImagePipeline", lambda: _arguments(cfg_normalization=1.0, guidance_scale=5.0), norm=True, g=6.0
    ),
    "ZImageImg2ImgPipeline": _run("ZImageImg2ImgPipeline", lambda: _arguments(image=picture(), strength=1.0)),
    "ZImageInpaintPipeline": _run(
        "ZImageInpaintPipeline", lambda: _arguments(image=picture(), mask_image=_mask(), strength=1.0)
    ),
    "ZImageControlNetPipeline": _run(
        "ZImageControlNetPipeline",
        lambda: _arguments(control_image=picture()),
        make=lambda: _controlled("ZImageControlNetPipeline", 4),
    ),
    "ZImageControlNetInpaintPipeline": _run(
        "ZImageControlNetInpaintPipeline",
        lambda: _arguments(control_image=picture(), image=picture(), mask_image=_mask()),
        make=lambda: _controlled("ZImageControlNetInpaintPipeline", 9),
    ),
    "ZImageOmniPipeline": _run(
        "ZImageOmniPipeline",
        _omni,
        make=lambda: _z_image(
            "ZImageOmniPipeline", "z-image omni", vae=Coarse(), siglip=Seen(), siglip_processor=Look()
        ),
        image=slice(4 * 32, 4 * 32 + 16),
    ),
    "ErnieImagePipeline": Run(
        partial(_plain, "ErnieImagePipeline", "ernie"), _ernie, "layers.1.self_attention", slice(0, 16)
    ),
    "ErnieImagePipeline: no CFG": Run(
        partial(_plain, "ErnieImagePipeline", "ernie"),
        lambda: _ernie(guidance_scale=1.0),
        "layers.1.self_attention",
        slice(0, 16),
    ),
    "Krea2Pipeline": Run(
        _krea,
        lambda: _embeddings(TEXT, 2, 16, mask="prompt_embeds_mask", height=64, width=64),
        "transformer_blocks.1.attn",
        _AFTER,
        calls=("cond", "uncond"),
    ),
    "Krea2Pipeline: no CFG": Run(
        _krea,
        lambda: _embeddings(TEXT, 2, 16, mask="prompt_embeds_mask", height=64, width=64, guidance_scale=0.0),
        "transformer_blocks.1.attn",
        _AFTER,
    ),
    "PRXPipeline": Run(
        _prx,
        lambda: _embeddings(TEXT, 16, height=8, width=8, **_PRX),
        "blocks.1.attention",
    ),
    "PRXPipeline: no CFG": Run(
        _prx,
        lambda: _embeddings(TEXT, 16, height=8, width=8, guidance_scale=1.0, **_PRX),
        "blocks.1.attention",
    ),
    "PRXPixelPipeline": Run(
        lambda: _plain("PRXPixelPipeline", "prx pixel"),
        lambda: _embeddings(TEXT, 16, height=8, width=8, **_PRX),
        "blocks.1.attention",
    ),
    "Ideogram4Pipeline": Run(
        _ideogram,
        lambda: {
            "prompt": "a picture",
            "height": 64,
            "width": 64,
            "guidance_scale": 4.0,
            "guidance_schedule": None,
            "max_sequence_length": TEXT,
        },
        "layers.1.attention",
        _AFTER,
        calls=("cond", "uncond"),
        denoisers=("transformer", "unconditional_transformer"),
    ),
    "OmniGenPipeline": _omnigen_run(),
    "OmniGenPipeline: images": _omnigen_run(
        prompt="a picture like <img><|image_1|></img>", input_images=[picture(32).resize((16, 32))]
    ),
}
