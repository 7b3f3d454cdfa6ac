"""Runs on networks of `pag.families.flux`."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlNetModel
from PIL import Image
from torch import nn

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.flux import CONFIG, TEXT, image, make, with_ip_adapter
from tests.runs._run import Run, pipeline


def vae(**config: Any) -> AutoencoderKL:
    """An autoencoder that keeps height and width; the pipelines pack 2×2 latents into a token."""
    torch.manual_seed(2)
    tiny: dict[str, Any] = {
        "block_out_channels": (8,),
        "norm_num_groups": 4,
        "latent_channels": 1,
        "shift_factor": 0.1,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return AutoencoderKL(**(tiny | config)).eval()


def embeddings(name: str, seed: int) -> dict[str, Any]:
    """Embeddings of a prompt: a name's prefix is ``""`` or ``"negative_"``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        f"{name}pooled_prompt_embeds": torch.randn(1, 16, generator=generator),
    }


def _pipe(name: str, network: Callable[[], nn.Module] = NETWORKS["flux"].make, **components: Any) -> Callable[[], Any]:
    def build() -> Any:
        made = {part: make() for part, make in components.items()}
        return pipeline(
            name, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(), transformer=strong(network), **made
        )

    return build


def _arguments(**given: Any) -> Callable[[], dict[str, Any]]:
    return lambda: embeddings("", 5) | {"height": 8, "width": 8} | given


def _true_cfg(**given: Any) -> Callable[[], dict[str, Any]]:
    return _arguments(**embeddings("negative_", 6), true_cfg_scale=4.0, **given)


def _controlnet(**config: Any) -> nn.Module:
    tiny: dict[str, Any] = CONFIG | {"num_layers": 1, "num_single_layers": 1} | config
    return strong(lambda: FluxControlNetModel(**tiny))


def _visual_cloze(name: str, **components: Any) -> Callable[[], Any]:
    """Its prompt comes in words only."""

    def build() -> Any:
        pipe = _pipe(name, lambda: make(in_channels=12, out_channels=4), **components)()
        given = embeddings("", 5)
        encoded = given["prompt_embeds"], given["pooled_prompt_embeds"], torch.zeros(TEXT, 3)
        for part in (pipe, getattr(pipe, "generation_pipe", None), getattr(pipe, "upsampling_pipe", None)):
            if part is not None:
                part.encode_prompt = lambda *args, **kwargs: encoded  # pyright: ignore
        return pipe

    return build


def pil(seed: int, size: int = 8) -> Image.Image:
    """A picture."""
    pixels = zoo.picture(size=size, seed=seed)[0].permute(1, 2, 0).mul(255).byte()
    return Image.fromarray(pixels.numpy())


_CLOZE: dict[str, Any] = {"task_prompt": "a", "content_prompt": "b", "image": [[pil(7), pil(8)], [pil(9), None]]}
PATH = "transformer_blocks.1.attn"
PICTURE = zoo.picture(size=8)
MASK = (zoo.picture(channels=1, size=8, seed=8) > 0.5).float()
TWO = ("cond", "uncond")
_IMAGE = {"image": PICTURE, "strength": 0.9}
_INPAINT = _IMAGE | {"mask_image": MASK}
_KONTEXT = {"max_area": 64, "_auto_resize": False}


def _all_but_text(queries: int, keys: int) -> tuple[slice, int]:
    return slice(TEXT, queries), 0


def _run(make: Callable[[], Any], arguments: Callable[[], dict[str, Any]], **facts: Any) -> Run:
    usual: dict[str, Any] = {"path": PATH, "image": _all_but_text}
    return Run(make, arguments, **(usual | facts))


RUNS = {
    "FluxPipeline": _run(_pipe("FluxPipeline"), _arguments()),
    "FluxPipeline: single blocks": _run(_pipe("FluxPipeline"), _arguments(), path="single_transformer_blocks.0.attn"),
    "FluxPipeline: schnell": _run(_pipe("FluxPipeline", NETWORKS["flux: schnell"].make), _arguments()),
    "FluxPipeline: true CFG": _run(_pipe("FluxPipeline"), _true_cfg(), calls=TWO),
    "FluxPipeline: IP-Adapter": _run(
        _pipe("FluxPipeline", with_ip_adapter),
        _true_cfg(
            ip_adapter_image_embeds=[torch.full((1, 1, 16), 0.3)],
            negative_ip_adapter_image_embeds=[torch.full((1, 1, 16), -0.3)],
        ),
        calls=TWO,
        image=image,
    ),
    "FluxImg2ImgPipeline": _run(_pipe("FluxImg2ImgPipeline"), _true_cfg(**_IMAGE), calls=TWO, steps=3),
    "FluxImg2ImgPipeline: no CFG": _run(_pipe("FluxImg2ImgPipeline"), _arguments(**_IMAGE), steps=3),
    "FluxInpaintPipeline": _run(_pipe("FluxInpaintPipeline"), _true_cfg(**_INPAINT), calls=TWO, steps=3),
    "FluxFillPipeline": _run(
        _pipe("FluxFillPipeline", lambda: make(in_channels=12, out_channels=4)),
        _arguments(image=PICTURE, mask_image=MASK),
    ),
    "FluxControlPipeline": _run(
        _pipe("FluxControlPipeline", lambda: make(in_channels=8, out_channels=4)), _arguments(control_image=PICTURE)
    ),
    "FluxControlImg2ImgPipeline": _run(
        _pipe("FluxControlImg2ImgPipeline", lambda: make(in_channels=8, out_channels=4)),
        _arguments(control_image=PICTURE, **_IMAGE),
        steps=3,
    ),
    "FluxControlInpaintPipeline": _run(
        _pipe("FluxControlInpaintPipeline", lambda: make(in_channels=8, out_channels=4)),
        _arguments(control_image=PICTURE, **_INPAINT),
        steps=3,
    ),
    "FluxControlNetPipeline": _run(
        _pipe("FluxControlNetPipeline", controlnet=_controlnet), _arguments(control_image=PICTURE)
    ),
    "FluxControlNetPipeline: true CFG": _run(
        _pipe("FluxControlNetPipeline", controlnet=_controlnet), _true_cfg(control_image=PICTURE), calls=TWO
    ),
    "FluxControlNetPipeline: union": _run(
        _pipe("FluxControlNetPipeline", controlnet=lambda: _controlnet(num_mode=3)),
        _arguments(control_image=PICTURE, control_mode=1),
    ),
    "FluxControlNetImg2ImgPipeline": _run(
        _pipe("FluxControlNetImg2ImgPipeline", controlnet=_controlnet),
        _arguments(control_image=PICTURE, **_IMAGE),
        steps=3,
    ),
    "FluxControlNetInpaintPipeline": _run(
        _pipe("FluxControlNetInpaintPipeline", controlnet=_controlnet),
        _arguments(control_image=PICTURE, **_INPAINT),
        steps=3,
    ),
    "FluxKontextPipeline": _run(_pipe("FluxKontextPipeline"), _true_cfg(image=PICTURE, **_KONTEXT), calls=TWO),
    "FluxKontextPipeline: no CFG": _run(_pipe("FluxKontextPipeline"), _arguments(image=PICTURE, **_KONTEXT)),
    "FluxKontextInpaintPipeline": _run(
        _pipe("FluxKontextInpaintPipeline"), _true_cfg(**_INPAINT, **_KONTEXT), calls=TWO, steps=3
    ),
    "FluxKontextInpaintPipeline: a reference": _run(
        _pipe("FluxKontextInpaintPipeline"),
        _arguments(image_reference=zoo.picture(size=8, seed=9), **_INPAINT, **_KONTEXT),
        steps=3,
    ),
    "VisualClozeGenerationPipeline": _run(
        _visual_cloze("VisualClozeGenerationPipeline", resolution=lambda: 8), lambda: dict(_CLOZE)
    ),
    "VisualClozePipeline": _run(
        _visual_cloze("VisualClozePipeline", resolution=lambda: 8),
        lambda: _CLOZE | {"upsampling_height": 8, "upsampling_width": 8, "upsampling_strength": 0.9},
        steps=3,
    ),
}
