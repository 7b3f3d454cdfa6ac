"""Networks of `pag.families.sana`."""

from collections.abc import Generator as Generated
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from diffusers import SanaTransformer2DModel, SanaVideoTransformer3DModel, SanaWMTransformer3DModel
from torch import Generator, Tensor, nn

from tests.denoisers._network import Network, randn


@contextmanager
def own_value(model: nn.Module, path: str) -> Generated[None]:
    """The identity in linear attention: each token gets its own value."""
    module: Any = model.get_submodule(path)

    def forward(hidden_states: Tensor, **_: Any) -> Tensor:
        return module.to_out[1](module.to_out[0](module.to_v(hidden_states)))

    with mock.patch.object(module, "forward", forward):
        yield


def _sana(**config: Any) -> SanaTransformer2DModel:
    tiny: dict[str, Any] = {
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 3,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 16,
        "sample_size": 8,
    }
    return SanaTransformer2DModel(**(tiny | config))


def _sana_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    lengths = torch.randint(2, 6, (rows, 1), generator=generator)
    return {
        "hidden_states": randn(generator, rows, 4, 8, 8),
        "encoder_hidden_states": randn(generator, rows, 5, 16),
        "encoder_attention_mask": (torch.arange(5) < lengths).long(),
        "timestep": torch.full((rows,), 500.0),
    }


def _sprint_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _sana_inputs(rows, generator) | {"guidance": torch.full((rows,), 0.45)}


def _controlled_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    residuals = tuple(randn(generator, rows, 64, 16) for _ in range(2))
    return _sana_inputs(rows, generator) | {"controlnet_block_samples": residuals}


def _video(**config: Any) -> SanaVideoTransformer3DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 3,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 12,
        "cross_attention_dim": 24,
        "caption_channels": 16,
        "rope_max_seq_len": 64,
    }
    return SanaVideoTransformer3DModel(**(tiny | config))


def _video_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return _sana_inputs(rows, generator) | {"hidden_states": randn(generator, rows, 4, 3, 4, 4)}


def _first_frame_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    """The first frame is given, so its tokens are at timestep 0."""
    noisy = torch.tensor([0.0, 1.0, 1.0]).view(1, 1, 3, 1, 1).expand(rows, 1, 3, 2, 2)
    return _video_inputs(rows, generator) | {"timestep": 500 * noisy}


def _world(**config: Any) -> SanaWMTransformer3DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "num_layers": 4,
        "hidden_size": 48,
        "num_attention_heads": 2,
        "softmax_every_n": 2,
        "linear_head_dim": 24,
        "chunk_plucker_channels": 48,
        "chunk_plucker_post_attn_blocks": 4,
        "caption_channels": 16,
        "mlp_ratio": 1.0,
    }
    # In single precision it rounds what attends to half precision, so that no two ways to compute it agree closely.
    return SanaWMTransformer3DModel(**(tiny | config)).double()


def _world_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    text = _sana_inputs(rows, generator)
    camera = torch.eye(4).flatten().repeat(rows, 3, 1)
    camera[..., 3] = torch.arange(3.0)  # it moves
    lens = torch.tensor([2.0, 2.0, 1.0, 1.0])
    return {
        "hidden_states": randn(generator, rows, 4, 3, 2, 2),
        "timestep": torch.tensor([0.0, 500.0, 500.0]).expand(rows, 1, 3),
        "encoder_hidden_states": text["encoder_hidden_states"][:, None],
        "mask": text["encoder_attention_mask"],
        "camera_conditions": torch.cat([camera, lens.expand(rows, 3, 4)], dim=-1).double(),
        "chunk_plucker": randn(generator, rows, 48, 3, 2, 2),
    }


_TEXT = ("encoder_hidden_states", "encoder_attention_mask")
_BLOCKS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")

NETWORKS = {
    "sana": Network(_sana, _sana_inputs, _BLOCKS, uncond=_TEXT, reference=own_value),
    "sana 1.5": Network(
        lambda: _sana(qk_norm="rms_norm_across_heads", interpolation_scale=1.0),
        _controlled_inputs,
        _BLOCKS,
        uncond=_TEXT,
        reference=own_value,
    ),
    "sana sprint": Network(
        lambda: _sana(qk_norm="rms_norm_across_heads", guidance_embeds=True),
        _sprint_inputs,
        _BLOCKS,
        uncond=_TEXT,
        reference=own_value,
    ),
    "sana: learned variance": Network(
        lambda: _sana(out_channels=8), _sana_inputs, _BLOCKS, uncond=_TEXT, variance=True, reference=own_value
    ),
    "sana video": Network(_video, _video_inputs, _BLOCKS, uncond=_TEXT, reference=own_value),
    "sana video: first frame": Network(_video, _first_frame_inputs, _BLOCKS, uncond=_TEXT, reference=own_value),
    "sana world model": Network(
        _world,
        _world_inputs,
        ("blocks.1.attn", "blocks.3.attn"),
        uncond=("encoder_hidden_states", "mask"),
        xfail={"half": "on the CPU the network computes its rays in full precision only"},
    ),
}
