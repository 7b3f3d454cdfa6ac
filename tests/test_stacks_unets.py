"""Guidance on top of adapters and options of U-Nets beside Stable Diffusion's: see `test_stacks.py`."""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import pag
from tests import reference, zoo
from tests.runs import RUNS, guided
from tests.test_stacks import S, check, with_and_without_cfg

PATH = "mid_block.attentions.0.transformer_blocks.1.attn1"
SIZE: dict[str, Any] = {"height": 32, "width": 32}


@with_and_without_cfg
def test_lora(guidance_scale: float):
    peft = pytest.importorskip("peft")
    pipe = zoo.pipeline("StableDiffusionXLPipeline", "sdxl")
    arguments: dict[str, Any] = {**zoo.pooled(), **SIZE, "guidance_scale": guidance_scale}
    plain = check(pipe, path=PATH, **arguments)
    modules = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False))
    assert zoo.difference(check(pipe, path=PATH, **arguments), plain) > 1e-3


@with_and_without_cfg
def test_ip_adapter(guidance_scale: float):
    pipe = zoo.pipeline("StableDiffusionXLPipeline", "sdxl")
    arguments: dict[str, Any] = {**zoo.pooled(), **SIZE, "guidance_scale": guidance_scale}
    plain = check(pipe, path=PATH, **arguments)
    pipe.unet._load_ip_adapter_weights(zoo.ip_adapter(pipe.unet))
    rows = 2 if guidance_scale else 1
    arguments["ip_adapter_image_embeds"] = [torch.randn(rows, 1, zoo.TEXT, generator=torch.Generator().manual_seed(8))]
    assert zoo.difference(check(pipe, path=PATH, **arguments), plain) > 1e-3


def test_rescaling_of_instruct_pix2pix(monkeypatch: pytest.MonkeyPatch):
    """Towards the deviation of the prompt's own prediction, to which nothing is added."""
    pipe = zoo.pipeline("StableDiffusionXLInstructPix2PixPipeline", "sdxl_pix2pix")
    arguments: dict[str, Any] = {**zoo.prompts(), **zoo.pooled(), **SIZE, "image": zoo.picture()}
    arguments |= {"guidance_rescale": 0.7, "image_guidance_scale": 1.5}
    with pag.guide(pipe, S, layers=PATH):
        ours = zoo.sample(pipe, **arguments)
    module, outputs = import_module(type(pipe).__module__), list[Tensor]()
    rescale = module.rescale_noise_cfg

    def truly(noise: Tensor, _text: Tensor, guidance_rescale: float) -> Tensor:
        return rescale(noise, outputs[-2].chunk(3)[0], guidance_rescale)

    pipe.unet.conv_out.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    monkeypatch.setattr(module, "rescale_noise_cfg", truly)
    with reference.guided(pipe, S, [PATH], {3: (3, 0)}):
        expected = zoo.sample(pipe, **arguments)
    assert zoo.difference(ours, expected) <= 1e-4


def test_ip_adapter_on_a_video():
    """Its embeddings are repeated for each frame inside the network."""
    run = RUNS["AnimateDiffPipeline"]
    pipe = run.make()
    pipe.unet._load_ip_adapter_weights(zoo.ip_adapter(pipe.unet))
    embeds = [torch.randn(2, 1, zoo.TEXT, generator=torch.Generator().manual_seed(8))]
    with pag.guide(pipe, S, layers=run.path):
        ours = run.sample(pipe, ip_adapter_image_embeds=embeds)
    with guided(run, pipe, S):
        expected = run.sample(pipe, ip_adapter_image_embeds=embeds)
    assert zoo.difference(ours, expected) <= 1e-4
    assert zoo.difference(ours, run.sample(pipe, ip_adapter_image_embeds=embeds)) > 1e-3
