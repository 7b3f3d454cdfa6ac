"""Networks of `pag.families.audio`."""

from typing import Any

import torch
from diffusers import (
    AceStepTransformer1DModel,
    LongCatAudioDiTTransformer,
    MiniMaxMusic3Transformer1DModel,
    StableAudio3DiTModel,
    StableAudioDiTModel,
)
from torch import Generator

from tests.denoisers._network import Network, randn

MEMORY = 2


def _stable_audio(**config: Any) -> StableAudioDiTModel:
    tiny: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "num_key_value_attention_heads": 2,
        "out_channels": 4,
        "cross_attention_dim": 16,
        "time_proj_dim": 16,
        "global_states_input_dim": 32,
        "cross_attention_input_dim": 16,
    }
    return StableAudioDiTModel(**(tiny | config))


def _stable_audio_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    angles = randn(generator, 17, 4)
    return {
        "hidden_states": randn(generator, rows, 4, 16),
        "timestep": torch.full((1,), 0.5),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "global_hidden_states": randn(generator, rows, 1, 32),
        "rotary_embedding": (angles.cos(), angles.sin()),
        "return_dict": False,  # its output class warns that it will be renamed
    }


def _stable_audio_3(**config: Any) -> StableAudio3DiTModel:
    tiny: dict[str, Any] = {
        "io_channels": 4,
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "cond_token_dim": 16,
        "global_cond_dim": 16,
        "local_add_cond_dim": 5,
        "timestep_features_dim": 16,
        "ff_mult": 2.0,
        "num_memory_tokens": MEMORY,
    }
    return StableAudio3DiTModel(**(tiny | config))


def _stable_audio_3_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.randint(2, 6, (rows, 1), generator=generator)
    return {
        "hidden_states": randn(generator, rows, 4, 16),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "global_hidden_states": randn(generator, rows, 16),
        "encoder_attention_mask": torch.arange(5) < lengths,
    }


def _inpainting_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _stable_audio_3_inputs(rows, generator) | {"local_add_cond": randn(generator, rows, 5, 16)}


def _longcat(**config: Any) -> LongCatAudioDiTTransformer:
    tiny: dict[str, Any] = {"dit_dim": 16, "dit_depth": 3, "dit_heads": 2, "dit_text_dim": 16, "latent_dim": 4}
    return LongCatAudioDiTTransformer(**(tiny | config))


def _longcat_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.randint(2, 6, (rows, 1), generator=generator)
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "encoder_attention_mask": torch.arange(5) < lengths,
        "timestep": torch.full((rows,), 0.5),
        "attention_mask": torch.ones(rows, 16, dtype=torch.bool),
        "latent_cond": randn(generator, rows, 16, 4),
    }


def _ace_step(**config: Any) -> AceStepTransformer1DModel:
    tiny: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "in_channels": 12,
        "audio_acoustic_hidden_dim": 4,
        "sliding_window": 2,
    }
    return AceStepTransformer1DModel(**(tiny | config))


def _ace_step_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "timestep": torch.full((rows,), 0.5),
        "timestep_r": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, 5, 32),
        "context_latents": randn(generator, rows, 16, 8),
    }


def _music() -> MiniMaxMusic3Transformer1DModel:
    return MiniMaxMusic3Transformer1DModel(
        in_channels=4,
        condition_dim=16,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=8,
        ff_inner_dim=32,
        rotary_dim=4,
        fourier_embedding_dim=16,
    )


def _music_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 16),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, 16, 16),
    }


_BLOCKS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")
_SELF = ("transformer_blocks.0.self_attn", "transformer_blocks.2.self_attn")
_TEXT = ("encoder_hidden_states", "encoder_attention_mask")

NETWORKS = {
    "stable audio": Network(
        _stable_audio, _stable_audio_inputs, _BLOCKS, slice(1, 17), tables=("timestep", "rotary_embedding")
    ),
    "stable audio 3": Network(_stable_audio_3, _stable_audio_3_inputs, _SELF, slice(MEMORY, MEMORY + 16), uncond=_TEXT),
    "stable audio 3: inpainting": Network(
        lambda: _stable_audio_3(use_differential_attention=False, num_memory_tokens=0),
        _inpainting_inputs,
        _SELF,
        uncond=_TEXT,
    ),
    "longcat audio": Network(_longcat, _longcat_inputs, ("blocks.0.self_attn", "blocks.2.self_attn"), uncond=_TEXT),
    "longcat audio: local": Network(
        lambda: _longcat(adaln_type="local", adaln_use_text_cond=False, long_skip=False, qk_norm=False),
        _longcat_inputs,
        ("blocks.0.self_attn", "blocks.2.self_attn"),
        uncond=_TEXT,
    ),
    # The first layer attends within a window, the second to everything.
    "ace step": Network(
        _ace_step, _ace_step_inputs, ("layers.0.self_attn", "layers.1.self_attn", "layers.2.self_attn")
    ),
    "minimax music": Network(
        _music, _music_inputs, ("transformer_blocks.0.attn", "transformer_blocks.2.attn"), slice(1, 17)
    ),
}
