"""Modular pipelines of videos."""

from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo15, HeliosDMDScheduler, HeliosScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.hunyuan_video import IMAGE
from tests.modular._run import ModularRun
from tests.modular.images import embeddings, noise, pixels, transformer
from tests.runs import ltx2
from tests.runs.other_videos import GAMMA
from tests.runs.wan import vae


def _wan(network: str = "wan") -> dict[str, Any]:
    return transformer(network) | {"vae": vae()}


def _wan22(network: str = "wan") -> dict[str, Any]:
    other = strong(NETWORKS[network].make)
    for parameter in other.parameters():
        parameter.mul_(0.9)
    return _wan(network) | {"transformer_2": other}


def _video() -> dict[str, Any]:
    return embeddings() | pixels(32) | {"num_frames": 9}


def _from_image(channels: int, text: int = 5) -> dict[str, Any]:
    """The frames that are given, and which they are."""
    given = {"num_frames": 9, "image_condition_latents": noise(5, 1, channels, 3, 4, 4)}
    return embeddings(text) | pixels(32) | given


def _controlled() -> dict[str, Any]:
    given = {"control_hidden_states": noise(5, 1, 72, 3, 4, 4), "control_hidden_states_scale": torch.ones(2)}
    return _video() | {"denoiser_input_fields": given}


def _hunyuan() -> dict[str, Any]:
    torch.manual_seed(2)
    vae15 = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8, 8),  # pyright: ignore
        layers_per_block=1,
    ).eval()
    return transformer("hunyuan_video_15") | {"vae": vae15}


def _two_texts() -> dict[str, Any]:
    given: dict[str, Any] = {"batch_size": 1, "num_frames": 9} | pixels(32)
    for seed, (prefix, length) in enumerate((("", 3), ("negative_", 4))):
        for suffix, tokens, width in (("", 5, 16), ("_2", 4, 8)):
            given[f"{prefix}prompt_embeds{suffix}"] = noise(seed, 1, tokens, width)
            given[f"{prefix}prompt_embeds_mask{suffix}"] = (torch.arange(tokens) < length)[None].float()
    return given


def _attended() -> dict[str, Any]:
    return {f"{prefix}prompt_attention_mask": torch.ones(1, 5) for prefix in ("", "negative_")}


def _ltx() -> dict[str, Any]:
    return embeddings() | _attended() | pixels(64) | {"num_frames": 17}


def _ltx2() -> dict[str, Any]:
    return transformer("ltx2") | {"vae": ltx2.vae(), "audio_vae": ltx2.audio_vae()}


def _sound() -> dict[str, Any]:
    known = {"batch_size": 1, "dtype": torch.float32, "use_cross_timestep": False}
    given: dict[str, Any] = {"num_frames": 17} | known | pixels(64)
    for seed, prefix in enumerate(("", "negative_")):
        given[f"{prefix}connector_prompt_embeds"] = noise(seed, 1, 5, 16)
        given[f"{prefix}connector_audio_prompt_embeds"] = noise(seed + 2, 1, 5, 16)
        given[f"{prefix}connector_attention_mask"] = torch.ones(1, 5)
    return given


def _helios() -> dict[str, Any]:
    sizes = {"num_frames": 9, "num_latent_frames_per_chunk": 3, "history_sizes": [16, 2, 1]}
    return embeddings() | pixels(32) | sizes


RUNS = {
    "WanBlocks": ModularRun("WanBlocks", _wan, _video, "blocks.1.attn1"),
    "WanImage2VideoAutoBlocks": ModularRun(
        "WanImage2VideoAutoBlocks",
        lambda: _wan("wan from an image"),
        lambda: _from_image(8, 512) | {"image_embeds": noise(6, 1, 3, 8)},
        "blocks.1.attn1",
    ),
    "Wan22Blocks": ModularRun("Wan22Blocks", _wan22, _video, "blocks.1.attn1", guiders=("guider", "guider_2")),
    "Wan22Image2VideoBlocks": ModularRun(
        "Wan22Image2VideoBlocks",
        lambda: _wan22("lucy edit"),
        lambda: _from_image(4),
        "blocks.1.attn1",
        guiders=("guider", "guider_2"),
    ),
    "Wan22VaceBlocks": ModularRun(
        "Wan22VaceBlocks",
        lambda: _wan22("wan vace"),
        _controlled,
        "blocks.1.attn1",
        guiders=("guider", "guider_2"),
    ),
    "HunyuanVideo15AutoBlocks": ModularRun(
        "HunyuanVideo15AutoBlocks", _hunyuan, _two_texts, "transformer_blocks.1.attn", IMAGE
    ),
    "LTXAutoBlocks": ModularRun("LTXAutoBlocks", lambda: transformer("ltx"), _ltx, "transformer_blocks.1.attn1"),
    "LTX2AutoBlocks": ModularRun(
        "LTX2AutoBlocks", _ltx2, _sound, "transformer_blocks.1.attn1", guiders=("guider", "audio_guider")
    ),
    "HeliosAutoBlocks": ModularRun("HeliosAutoBlocks", lambda: transformer("helios"), _helios, "blocks.1.attn1"),
    "HeliosPyramidAutoBlocks": ModularRun(
        "HeliosPyramidAutoBlocks",
        lambda: transformer("helios") | {"scheduler": HeliosScheduler(gamma=GAMMA)},
        lambda: _helios() | pixels(64) | {"pyramid_num_inference_steps_list": [2, 1, 1]},
        "blocks.1.attn1",
        steps=None,
    ),
    "HeliosPyramidDistilledAutoBlocks": ModularRun(
        "HeliosPyramidDistilledAutoBlocks",
        lambda: transformer("helios") | {"scheduler": HeliosDMDScheduler(gamma=GAMMA)},
        lambda: _helios() | pixels(64) | {"pyramid_num_inference_steps_list": [1, 1, 1]},
        "blocks.1.attn1",
        steps=None,
        distilled=True,
    ),
}
