"""Runs on networks of `pag.families.ltx`."""

from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline
from tests.runs.wan import image

TEXT = 5
PATH = "transformer_blocks.1.attn1"


def _vae() -> AutoencoderKLLTXVideo:
    """8 frames to 1 (the first stays alone), 32×32 pixels to one latent."""
    torch.manual_seed(2)
    blocks: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    }
    return AutoencoderKLLTXVideo(latent_channels=4, **blocks).eval()


def _ltx(name: str, **config: Any) -> Any:
    return pipeline(
        name,
        vae=_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(**config),
        transformer=strong(NETWORKS["ltx"].make),
    )


def _text(**arguments: Any) -> dict[str, Any]:
    """A prompt of three tokens, a negative one of five."""
    generator = torch.Generator().manual_seed(5)
    return {
        "prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        "negative_prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        "prompt_attention_mask": torch.tensor([[1, 1, 1, 0, 0]]),
        "negative_prompt_attention_mask": torch.ones(1, TEXT, dtype=torch.long),
        "height": 64,
        "width": 64,
        "num_frames": 17,
    } | arguments


def _long() -> Any:
    pipe = _ltx("LTXI2VLongMultiPromptPipeline")
    text = _text()
    names = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
    pipe.encode_prompt = lambda **_: tuple(text[name] for name in names)
    return pipe


def _windows(**arguments: Any) -> dict[str, Any]:
    """Two windows of two latents, which share one."""
    return {
        "prompt": "a",
        "height": 64,
        "width": 64,
        "num_frames": 17,
        "guidance_scale": 4.0,
        "temporal_tile_size": 16,
        "temporal_overlap": 8,
        "cond_image": image(size=64),
    } | arguments


RUNS = {
    "LTXPipeline": Run(lambda: _ltx("LTXPipeline"), _text, PATH),
    "LTXPipeline: no CFG": Run(lambda: _ltx("LTXPipeline"), lambda: _text(guidance_scale=1.0), PATH),
    "LTXImageToVideoPipeline": Run(lambda: _ltx("LTXImageToVideoPipeline"), lambda: _text(image=image(size=64)), PATH),
    "LTXConditionPipeline": Run(lambda: _ltx("LTXConditionPipeline"), lambda: _text(image=image(size=64)), PATH),
    "LTXConditionPipeline: a later frame": Run(
        lambda: _ltx("LTXConditionPipeline"), lambda: _text(image=image(size=64), frame_index=8), PATH
    ),
    "LTXI2VLongMultiPromptPipeline": Run(_long, _windows, PATH, steps=3),
    "LTXI2VLongMultiPromptPipeline: no CFG": Run(_long, lambda: _windows(guidance_scale=1.0), PATH, steps=3),
}
