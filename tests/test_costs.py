"""What is run is the least that exact arithmetic allows: counted at full size, without weights."""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    FluxTransformer2DModel,
    LTXVideoTransformer3DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pag
from tests import zoo

_XL: dict[str, Any] = zoo.SDXL | {"sample_size": 128}
_SD35: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
_WAN: dict[str, Any] = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}

MODELS: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "SD 1.5": (lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768), 1.684, 2.633),
    "SDXL": (lambda: UNet2DConditionModel(**_XL), 1.656, 2.656),
    "SD 3.5 medium": (lambda: SD3Transformer2DModel(**_SD35), 1.347, 2.347),
    "Flux": (lambda: FluxTransformer2DModel(guidance_embeds=True), 1.748, 2.748),
    "PixArt": (lambda: PixArtTransformer2DModel(caption_channels=4096, use_additional_conditions=False), 1.483, 2.465),
    "Sana": (SanaTransformer2DModel, 1.588, 2.574),
    "LTX-Video": (LTXVideoTransformer3DModel, 1.304, 2.286),
    "Wan 1.3B": (lambda: WanTransformer3DModel(**_WAN), 1.475, 2.475),
}
"""Published architectures, and the forwards a step at the recommended layers: PAG alone, with CFG in the same call."""


@cache
def cost_of(name: str, cfg: bool) -> pag.Cost:
    """The cost of a published architecture. Several tests compare with it."""
    with torch.device("meta"):
        model = MODELS[name][0]()
    return pag.cost(model, cfg=cfg)


_CONTROL = ("down_block_types", "transformer_layers_per_block", "attention_head_dim", "use_linear_projection")
_ADDED = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
_XL_CONTROL = {name: _XL[name] for name in (*_CONTROL, *_ADDED, "block_out_channels", "cross_attention_dim")}

CONTROLNETS: dict[str, tuple[str, Callable[[], nn.Module], float, float]] = {
    "SD 1.5": ("SD 1.5", lambda: ControlNetModel(cross_attention_dim=768), 1.507, 2.417),
    "SDXL": ("SDXL", lambda: ControlNetModel(**_XL_CONTROL), 1.453, 2.448),
    "SDXL union": (
        "SDXL",
        lambda: ControlNetUnionModel(**_XL_CONTROL, conditioning_embedding_out_channels=(16, 32, 96, 256)),
        1.453,
        2.447,
    ),
}
"""The network that it is for, the ControlNet, and the forwards of both together a step: PAG alone, with CFG."""


@pytest.mark.parametrize("name", CONTROLNETS)
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_a_controlnet_runs_no_perturbed_row_and_shares_the_others(name: str, cfg: bool):
    denoiser, make, alone, both = CONTROLNETS[name]
    with torch.device("meta"):
        unet, net = MODELS[denoiser][0](), make()
    pipe = SimpleNamespace(unet=unet, controlnet=net)
    cost, without = pag.cost(pipe, cfg=cfg), cost_of(denoiser, cfg)
    assert cost.forward > 1.2 * without.forward
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.001 * cost.floor
    assert cost.executed == pytest.approx(both if cfg else alone, abs=0.002)


_ADM_256: dict[str, Any] = {
    "sample_size": 256,
    "out_channels": 6,
    "block_out_channels": (256, 256, 512, 512, 1024, 1024),
    "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
    "up_block_types": ("AttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",) * 3,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 64,
    "attn_norm_num_groups": 32,
    "resnet_time_scale_shift": "scale_shift",
}

TEXT_FREE: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "ADM 256": (lambda: UNet2DModel(**_ADM_256), 1.748, 2.748),
    "of pixels": (lambda: UNet2DModel(sample_size=256, block_out_channels=(128, 128, 256, 512)), 1.9, 2.9),
    "Stable Video Diffusion": (UNetSpatioTemporalConditionModel, 1.65, 2.6),
}
"""And those whose text is a picture."""


@pytest.mark.parametrize("name", TEXT_FREE)
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_text_free_unets_reach_the_floor(name: str, cfg: bool):
    make, alone, both = TEXT_FREE[name]
    with torch.device("meta"):
        cost = pag.cost(make(), cfg=cfg)
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.001 * cost.floor
    assert cost.executed <= (both if cfg else alone)


def test_off_runs_the_plain_forward():
    """Operations of each step: outside of the interval, and with scale 0, those of the plain forward exactly."""

    def counted(**settings: Any) -> list[int]:
        pipe, seen = zoo.pipeline("StableDiffusionControlNetPipeline", controlnet=zoo.controlnet()), list[int]()
        plain = pipe.unet.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                output = plain(*args, **kwargs)
            seen.append(counter.get_total_flops())
            return output

        pipe.unet.forward = forward
        with pag.guide(pipe, **settings):
            zoo.sample(pipe, steps=4, **zoo.prompts(), image=zoo.picture())
        return seen

    off = counted(scale=0.0)
    inside = counted(scale=3.0, start=0.3, stop=0.7)
    assert len(set(off)) == 1
    assert [one == off[0] for one in inside] == [True, False, True, True]
    assert max(inside) < 1.5 * off[0]


SEVERAL = {"SD 1.5": "mid, u0", "SD 3.5 medium": "12, 13", "PixArt": "12, 13, 14, 15", "Wan 1.3B": "14, 15, 29"}
"""Layers, of which all but the first are perturbed in rows that differ already."""


@pytest.mark.parametrize("name", SEVERAL)
def test_the_floor_is_reached_with_several_layers(name: str):
    """Where the image's tokens are alone, perturbed rows have neither queries nor keys."""
    with torch.device("meta"):
        model = MODELS[name][0]()
    cost = pag.cost(model, layers=SEVERAL[name])
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.005 * cost.floor


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cfg", [False, True], ids=["alone", "cfg"])
def test_the_floor_is_reached(name: str, cfg: bool):
    _, alone, both = MODELS[name]
    cost = cost_of(name, cfg)
    assert cost.floor * (1 - 1e-6) <= cost.executed <= 1.02 * cost.floor
    assert cost.executed == pytest.approx(both if cfg else alone, abs=0.002)
    assert cost.rows == (3 if cfg else 2)


def test_without_sharing_every_row_is_run_but_for_the_map_of_attention():
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    cost = pag.cost(model, share_rows=False)
    assert 2.99 < cost.executed < 3
