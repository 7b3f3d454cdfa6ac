"""Runs on networks of `pag.families.audio`."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderOobleck,
    AutoencoderSAME,
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableAudio3DurationEmbedder,
    StableAudioProjectionModel,
)
from torch import Tensor, nn

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.audio import MEMORY
from tests.runs._run import Run, pipeline

TEXT = 5


def _embeddings(*names: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    return {f"{name}prompt_embeds": torch.randn(1, TEXT, 16, generator=generator) for name in names or ("",)}


def _autoencoder(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm`", FutureWarning)
        return make().eval()


def _stable_audio() -> Any:
    return pipeline(
        "StableAudioPipeline",
        vae=_autoencoder(lambda: AutoencoderOobleck(4, [2, 2], [1, 2], 4, 4, 2, 4)),
        projection_model=StableAudioProjectionModel(16, 16, 0.0, 16.0).eval(),
        transformer=strong(NETWORKS["stable audio"].make),
        scheduler=EDMDPMSolverMultistepScheduler(),
    )


def _stable_audio_arguments(**arguments: Any) -> dict[str, Any]:
    return _embeddings("", "negative_") | {"audio_end_in_s": 16.0} | arguments


def _stable_audio_3(name: str) -> Any:
    config: dict[str, Any] = {
        "audio_channels": 1,
        "patch_size": 4,
        "encoder_channels": 8,
        "encoder_c_mults": [2],
        "encoder_strides": [2],
        "encoder_transformer_depths": [1],
        "latent_dim": 4,
        "dim_heads": 8,
        "sampling_rate": 8,
    }
    return pipeline(
        name,
        vae=_autoencoder(lambda: AutoencoderSAME(**config)),
        duration_embedder=StableAudio3DurationEmbedder(output_dim=16, fourier_dim=16).eval(),
        transformer=strong(NETWORKS["stable audio 3"].make),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1),
    )


def _sound() -> torch.Tensor:
    return torch.rand(1, 1, 128, generator=torch.Generator().manual_seed(7))


STABLE_AUDIO_3: dict[str, Any] = {"path": "transformer_blocks.1.self_attn", "image": slice(MEMORY, MEMORY + 16)}


class _Stub(nn.Module):
    """A component of a pipeline that is none of diffusers'."""

    device, dtype = torch.device("cpu"), torch.float32


class _NoAutoencoder(_Stub):
    """For pipelines that only look at the configuration, if latents are asked for."""

    config = SimpleNamespace(sample_rate=24000, downsampling_ratio=2048)


def _longcat() -> Any:
    given = _embeddings("", "negative_")
    pipe = pipeline(
        "LongCatAudioDiTPipeline",
        vae=_NoAutoencoder(),
        transformer=strong(NETWORKS["longcat audio"].make),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, invert_sigmas=True),
    )

    def encode_prompt(prompt: list[str], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
        name = "negative_prompt_embeds" if prompt == ["noise"] else "prompt_embeds"
        return given[name], torch.tensor([TEXT - len(prompt[0]) % 2])

    pipe.encode_prompt = encode_prompt
    return pipe


def _longcat_arguments(**arguments: Any) -> dict[str, Any]:
    latents = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(7))
    return {"prompt": "rain", "negative_prompt": "noise", "latents": latents} | arguments


class _Conditions(_Stub):
    """What the encoder of text, lyrics and timbre gives, without any of them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.silence_latent = torch.randn(1, 750, 4, generator=generator)
        self.null_condition_emb = torch.randn(1, 1, 32, generator=generator)
        self.encoded = torch.randn(1, TEXT, 32, generator=generator)

    def forward(self, **_: Any) -> tuple[Tensor, Tensor]:
        return self.encoded, torch.ones(1, TEXT)


def _ace_step() -> Any:
    pipe = pipeline(
        "AceStepPipeline",
        transformer=strong(NETWORKS["ace step"].make),
        condition_encoder=_Conditions(),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipe.encode_prompt = lambda **_: (None,) * 4
    return pipe


def _ace_step_arguments(**arguments: Any) -> dict[str, Any]:
    return {"prompt": "a song", "audio_duration": 0.64} | arguments


RUNS = {
    "StableAudioPipeline": Run(_stable_audio, _stable_audio_arguments, "transformer_blocks.1.attn1", slice(1, 17)),
    "StableAudioPipeline: no CFG": Run(
        _stable_audio, lambda: _stable_audio_arguments(guidance_scale=1.0), "transformer_blocks.1.attn1", slice(1, 17)
    ),
    "StableAudio3Pipeline": Run(
        lambda: _stable_audio_3("StableAudio3Pipeline"),
        lambda: _embeddings("", "negative_") | {"duration": 16.0, "guidance_scale": 4.0},
        **STABLE_AUDIO_3,
    ),
    "StableAudio3Pipeline: no CFG": Run(
        lambda: _stable_audio_3("StableAudio3Pipeline"), lambda: _embeddings() | {"duration": 16.0}, **STABLE_AUDIO_3
    ),
    "StableAudio3AudioToAudioPipeline": Run(
        lambda: _stable_audio_3("StableAudio3AudioToAudioPipeline"),
        lambda: _embeddings() | {"duration": 16.0, "audio": _sound(), "init_noise_level": 0.8},
        **STABLE_AUDIO_3,
    ),
    "StableAudio3InpaintPipeline": Run(
        lambda: _stable_audio_3("StableAudio3InpaintPipeline"),
        lambda: (
            _embeddings() | {"duration": 16.0, "audio": _sound(), "mask_start_seconds": 4.0, "mask_end_seconds": 9.0}
        ),
        **STABLE_AUDIO_3,
    ),
    "LongCatAudioDiTPipeline": Run(_longcat, _longcat_arguments, "blocks.1.self_attn", calls=("cond", "uncond")),
    "LongCatAudioDiTPipeline: no CFG": Run(
        _longcat, lambda: _longcat_arguments(guidance_scale=1.0), "blocks.1.self_attn"
    ),
    "AceStepPipeline": Run(_ace_step, _ace_step_arguments, "layers.1.self_attn", groups={2: (2, 0)}),
    "AceStepPipeline: no CFG": Run(_ace_step, lambda: _ace_step_arguments(guidance_scale=1.0), "layers.1.self_attn"),
    "AceStepPipeline: CFG in an interval": Run(
        _ace_step,
        lambda: _ace_step_arguments(cfg_interval_start=0.1),
        "layers.1.self_attn",
        groups={1: (1, 0), 2: (2, 0)},
    ),
    # One more call a step, for the prompt alone, is blended in.
    "AceStepPipeline: cover": Run(
        _ace_step,
        lambda: _ace_step_arguments(task_type="cover", audio_cover_strength=0.7),
        "layers.1.self_attn",
        groups={1: (1, 0), 2: (2, 0)},
    ),
}
