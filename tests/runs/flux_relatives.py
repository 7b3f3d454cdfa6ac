"""Runs on networks of `pag.families.flux_relatives`."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tests import zoo
from tests.denoisers._network import strong
from tests.denoisers.flux import TEXT
from tests.denoisers.flux_relatives import REGISTERS, aura_flow, bria, chroma, fibo, fibo_2, long_cat, ovis
from tests.runs._run import Run, pipeline
from tests.runs.flux import pil, vae
from tests.runs.flux2 import vae as flux2_vae
from tests.runs.wan import vae as wan_vae


def _embeddings(seed: int, *shape: int) -> Tensor:
    return torch.randn(1, *(shape or (TEXT,)), 16, generator=torch.Generator().manual_seed(seed))


PROMPT, NEGATIVE = _embeddings(5), _embeddings(6)
MASK, NEGATIVE_MASK = torch.arange(TEXT)[None] < 4, torch.arange(TEXT)[None] < 2
EMBEDS = {"prompt_embeds": PROMPT, "negative_prompt_embeds": NEGATIVE}
MASKS = {"prompt_attention_mask": MASK, "negative_prompt_attention_mask": NEGATIVE_MASK}
TWO = ("cond", "uncond")
NO_CFG = {"guidance_scale": 1.0}


def _pipe(name: str, network: Callable[[], Any], **components: Any) -> Callable[[], Any]:
    def build() -> Any:
        made = {"scheduler": FlowMatchEulerDiscreteScheduler(), "vae": vae(), "transformer": strong(network)}
        return pipeline(name, **(made | {part: make() for part, make in components.items()}))

    return build


def _encoding(make: Callable[[], Any], encode: Callable[..., Any]) -> Callable[[], Any]:
    """A pipeline that takes its prompt in words only: what it makes of the words is given."""

    def build() -> Any:
        pipe = make()
        pipe.encode_prompt = encode
        return pipe

    return build


def _long_cat_encoding(*_: Any, prompt: str, **__: Any) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(TEXT, 3)
    return (PROMPT if prompt == "a" else NEGATIVE), ids


def _fibo_encoding(*_: Any, **__: Any) -> tuple[Any, ...]:
    layers = [[_embeddings(seed + layer) for layer in range(6)] for seed in (10, 20)]
    return PROMPT, NEGATIVE, torch.zeros(1, TEXT, 3), MASK.float(), NEGATIVE_MASK.float(), *layers


def _chroma_with_entry() -> Any:
    """The pipeline asks the configuration for an entry that the class of the network does not make."""
    network = chroma()
    network.register_to_config(guidance_embeds=False)
    return network


def _run(make: Callable[[], Any], given: dict[str, Any], **facts: Any) -> Run:
    usual: dict[str, Any] = {"path": "transformer_blocks.1.attn", "image": _all_but_text}
    return Run(make, lambda: {"height": 8, "width": 8} | given, **(usual | facts))


def _all_but_text(queries: int, keys: int) -> tuple[slice, int]:
    return slice(TEXT, queries), 0


def _after_gist(queries: int, keys: int) -> tuple[slice, int]:
    return slice(8, queries), 0


_IMAGE = {"image": zoo.picture(size=8), "strength": 0.9}
_INPAINT = _IMAGE | {"mask_image": (zoo.picture(channels=1, size=8, seed=8) > 0.5).float()}
_LONG_CAT = {"prompt": "a", "enable_prompt_rewrite": False}
_FIBO = {"prompt": '{"edit_instruction": "a"}', "height": 64, "width": 64}
_GIST: dict[str, Any] = {
    "prompt_embeds": _embeddings(5, 2, 6),
    "negative_prompt_embeds": _embeddings(6, 2, 6),
    "height": 64,
    "width": 64,
}


def _long_cat_pipe() -> Any:
    make = _pipe(
        "LongCatImagePipeline", lambda: long_cat(in_channels=64), vae=lambda: vae(latent_channels=16, sample_size=8)
    )
    return _encoding(make, _long_cat_encoding)()


class _NoProcessor:
    image_processor = None


def _long_cat_edit_pipe() -> Any:
    """Images are brought to a million pixels, of which each becomes a very small latent here."""
    small = {
        "block_out_channels": (4,) * 8,
        "down_block_types": ("DownEncoderBlock2D",) * 8,
        "up_block_types": ("UpDecoderBlock2D",) * 8,
        "norm_num_groups": 2,
        "latent_channels": 16,
    }
    make = _pipe(
        "LongCatImageEditPipeline",
        lambda: long_cat(in_channels=64),
        vae=lambda: vae(**small),
        text_processor=_NoProcessor,
    )
    return _encoding(make, _long_cat_encoding)()


def _fibo_pipe(name: str) -> Callable[[], Any]:
    shifting = {"scheduler": lambda: FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)}
    return _encoding(_pipe(name, fibo, vae=wan_vae, **shifting), _fibo_encoding)


def _gist_pipe() -> Any:
    return _pipe("BriaFibo2Pipeline", fibo_2, vae=lambda: flux2_vae(latent_channels=4))()


def _gist_edit_pipe() -> Any:
    def encode(prompt: Any, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return (_GIST["prompt_embeds"] if prompt == "a" else _GIST["negative_prompt_embeds"]), None

    return _encoding(_gist_pipe, encode)()


RUNS = {
    "ChromaPipeline": _run(_pipe("ChromaPipeline", chroma), EMBEDS | MASKS, calls=TWO),
    "ChromaPipeline: no CFG": _run(_pipe("ChromaPipeline", chroma), EMBEDS | MASKS | NO_CFG),
    "ChromaImg2ImgPipeline": _run(_pipe("ChromaImg2ImgPipeline", chroma), EMBEDS | MASKS | _IMAGE, calls=TWO, steps=3),
    "ChromaInpaintPipeline": _run(
        _pipe("ChromaInpaintPipeline", _chroma_with_entry), EMBEDS | MASKS | _INPAINT, calls=TWO, steps=3
    ),
    "AuraFlowPipeline": _run(
        _pipe("AuraFlowPipeline", aura_flow, vae=zoo.vae),
        EMBEDS | MASKS | {"height": 16, "width": 16},
        path="joint_transformer_blocks.1.attn",
        image=slice(REGISTERS + TEXT, REGISTERS + TEXT + 16),
        tolerance=5e-5,
    ),
    "AuraFlowPipeline: single blocks, no CFG": _run(
        _pipe("AuraFlowPipeline", aura_flow, vae=zoo.vae),
        EMBEDS | MASKS | NO_CFG | {"height": 16, "width": 16},
        path="single_transformer_blocks.0.attn",
        image=slice(REGISTERS + TEXT, REGISTERS + TEXT + 16),
        tolerance=5e-5,
    ),
    "LongCatImagePipeline": _run(_long_cat_pipe, _LONG_CAT, calls=TWO, g=4.5, norm=True),
    "LongCatImagePipeline: no renormalisation": _run(
        _long_cat_pipe, _LONG_CAT | {"enable_cfg_renorm": False}, calls=TWO
    ),
    "LongCatImagePipeline: no CFG": _run(_long_cat_pipe, _LONG_CAT | NO_CFG),
    "LongCatImageEditPipeline": Run(
        _long_cat_edit_pipe,
        lambda: {"prompt": "a", "image": pil(7, 64)},
        "transformer_blocks.1.attn",
        _all_but_text,
        calls=TWO,
    ),
    "OvisImagePipeline": _run(_pipe("OvisImagePipeline", ovis), EMBEDS | {"negative_prompt": None}, calls=TWO),
    "OvisImagePipeline: no CFG": _run(_pipe("OvisImagePipeline", ovis), EMBEDS | {"negative_prompt": None} | NO_CFG),
    "BriaPipeline": _run(_pipe("BriaPipeline", bria), EMBEDS),
    "BriaPipeline: no CFG": _run(_pipe("BriaPipeline", bria), EMBEDS | NO_CFG),
    "BriaPipeline: normalised": _run(_pipe("BriaPipeline", bria), EMBEDS | {"normalize": True}, g=5.0, norm=True),
    "BriaFiboPipeline": _run(_fibo_pipe("BriaFiboPipeline"), _FIBO),
    "BriaFiboPipeline: single blocks, no CFG": _run(
        _fibo_pipe("BriaFiboPipeline"), _FIBO | NO_CFG, path="single_transformer_blocks.0.attn"
    ),
    "BriaFiboEditPipeline": _run(_fibo_pipe("BriaFiboEditPipeline"), _FIBO | {"image": pil(7, 64)}),
    "BriaFibo2Pipeline": _run(_gist_pipe, _GIST, calls=TWO, path="layers.1.attention", image=_after_gist),
    "BriaFibo2Pipeline: no CFG": _run(_gist_pipe, _GIST | NO_CFG, path="noise_refiner.0.attention", image=None),
    "BriaFibo2Pipeline: an image to edit": _run(
        _gist_edit_pipe,
        {"prompt": "a", "image": pil(7, 64), "height": 64, "width": 64},
        calls=TWO,
        path="layers.1.attention",
        image=_after_gist,
    ),
}
