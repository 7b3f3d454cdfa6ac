"""Runs on networks of `pag.families.qwen`."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImage21Pipeline
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from PIL import Image
from torch import Tensor

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.qwen import image_21
from tests.runs._run import Run, pipeline

TEXT, G = 5, 4.0


def vae() -> AutoencoderKLQwenImage:
    """An autoencoder of 8×8 pixels to one latent."""
    torch.manual_seed(2)
    return AutoencoderKLQwenImage(
        base_dim=3,
        z_dim=4,
        dim_mult=[1] * 4,
        num_res_blocks=1,
        temperal_downsample=[False] * 3,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


class Coarse(torch.nn.Module):
    """What stands for an autoencoder where the pipeline insists on large images.

    Args:
        pixels: height and width of what is one latent.
    """

    temperal_downsample = (False,) * 5
    config = SimpleNamespace(z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, pixels: int = 32) -> None:
        super().__init__()
        self.pixels = pixels

    def encode(self, image: Tensor) -> SimpleNamespace:
        """Means over the pixels; of as many channels as latents have."""
        latents = F.avg_pool2d(image[:, :, 0], self.pixels)[:, :, None]
        return SimpleNamespace(latents=latents[:, [0, 1, 2, -1]])

    def decode(self, latents: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        """The latents, small enough to be colours."""
        return (latents / 100,)


def picture(size: int = 64, mode: str = "RGB") -> Image.Image:
    """An image whose pixels differ."""
    return Image.linear_gradient("L").resize((size, size)).convert(mode)


class Encoder(torch.nn.Module):
    """What stands for a text encoder that is asked for its type only."""

    dtype, device = torch.float32, torch.device("cpu")


class Processor:
    """What stands for a tokenizer that is asked for the number of the image's token only."""

    tokenizer = SimpleNamespace(encode=lambda text: [7])  # pyright: ignore

    def apply_chat_template(self, messages: Any, **given: Any) -> list[list[int]]:
        """Three tokens."""
        return [[1, 2, 3]]


class EncodesImages(QwenImage21Pipeline):
    """One slot of the given embeddings, the third, is that of an image."""

    def encode_prompt(self, *args: Any, image: Any = None, **given: Any) -> Any:
        """Leave embeddings as they are."""
        slots = torch.tensor([[position == 2 and image is not None for position in range(TEXT)]])
        return super().encode_prompt(*args, **given, image_pad_mask=slots)


def _make_21(**given: Any) -> Any:
    components: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": Coarse(16),
        "text_encoder": None,
        "processor": Processor(),
        "transformer": strong(NETWORKS["qwen 2.1"].make),
    }
    return EncodesImages(**components)


def _run_21(others: int = TEXT, **arguments: Any) -> Run:
    return Run(
        _make_21,
        lambda: _arguments(64, **arguments),
        "transformer_blocks.1.attn",
        image_21(others),
        calls=("cond", "uncond"),
    )


def _make(name: str, network: str = "qwen", **components: Any) -> Any:
    return pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        transformer=strong(NETWORKS[network].make),
        **({"vae": vae()} | components),
    )


def _controlled(name: str, **config: Any) -> Any:
    def control() -> QwenImageControlNetModel:
        return QwenImageControlNetModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
            **config,
        )

    return _make(name, controlnet=strong(control))


def _arguments(size: int = 64, **given: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    arguments: dict[str, Any] = {"height": size, "width": size, "true_cfg_scale": G}
    for name in ("", "negative_"):
        arguments[f"{name}prompt_embeds"] = torch.randn(1, TEXT, 16, generator=generator)
        mask = torch.ones(1, TEXT, dtype=torch.bool)
        mask[0, 3 + len(name) // 9 :] = False
        arguments[f"{name}prompt_embeds_mask"] = mask
    return arguments | given


def _run(name: str, arguments: Any = _arguments, image: int = 16, **given: Any) -> Run:
    convention: dict[str, Any] = {"calls": ("cond", "uncond"), "g": G, "norm": True}
    make = given.pop("make", partial(_make, name))
    return Run(make, arguments, "transformer_blocks.1.attn", slice(TEXT, TEXT + image), **(convention | given))


def _masked() -> dict[str, Any]:
    mask = Image.new("L", (64, 64), 255)
    mask.paste(0, (0, 0, 32, 32))
    return _arguments(image=picture(), mask_image=mask, strength=1.0)


def _layered() -> dict[str, Any]:
    arguments = _arguments(image=picture(), layers=1, prompt="a picture", resolution=640)
    return {name: value for name, value in arguments.items() if name not in ("height", "width")}


RUNS = {
    "QwenImagePipeline": _run("QwenImagePipeline"),
    "QwenImagePipeline: no CFG": _run(
        "QwenImagePipeline", lambda: _arguments(true_cfg_scale=1.0), calls=(), norm=False
    ),
    "QwenImageImg2ImgPipeline": _run("QwenImageImg2ImgPipeline", lambda: _arguments(image=picture(), strength=1.0)),
    "QwenImageInpaintPipeline": _run("QwenImageInpaintPipeline", _masked),
    "QwenImageControlNetPipeline": _run(
        "QwenImageControlNetPipeline",
        lambda: _arguments(control_image=picture()),
        make=lambda: _controlled("QwenImageControlNetPipeline"),
    ),
    "QwenImageControlNetInpaintPipeline": _run(
        "QwenImageControlNetInpaintPipeline",
        lambda: _arguments(control_image=picture(), control_mask=picture(mode="L")),
        make=lambda: _controlled("QwenImageControlNetInpaintPipeline", extra_condition_channels=4),
    ),
    "QwenImageEditPipeline": _run(
        "QwenImageEditPipeline",
        lambda: _arguments(256, image=picture()),
        make=lambda: _make("QwenImageEditPipeline", vae=Coarse()),
    ),
    "QwenImageEditInpaintPipeline": _run(
        "QwenImageEditInpaintPipeline",
        _masked,
        256,  # it overrides height and width
        make=lambda: _make("QwenImageEditInpaintPipeline", vae=Coarse()),
    ),
    "QwenImageEditPlusPipeline": _run(
        "QwenImageEditPlusPipeline",
        lambda: _arguments(256, image=[picture(), picture(32)]),
        make=lambda: _make("QwenImageEditPlusPipeline", "qwen edit", vae=Coarse()),
    ),
    "QwenImageLayeredPipeline": _run(
        "QwenImageLayeredPipeline",
        _layered,
        200,
        make=lambda: _make("QwenImageLayeredPipeline", "qwen layered", vae=Coarse(), text_encoder=Encoder()),
        norm=False,
        output=lambda output: output[0][0],
        output_type="pt",
    ),
    "QwenImage21Pipeline": _run_21(),
    "QwenImage21Pipeline: no cache": _run_21(use_kv_cache=False),
    "QwenImage21Pipeline: edit": _run_21(TEXT + 3, image=picture(), output_resolution=32),
}
