"""Networks of `pag.families.qwen`."""

from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

TEXT = 5
PATHS = ("transformer_blocks.0.attn", "transformer_blocks.2.attn")


def make(**config: Any) -> QwenImageTransformer2DModel:
    tiny: dict[str, Any] = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 3,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (4, 6, 6),
    }
    return QwenImageTransformer2DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator, shapes: list[tuple[int, int, int]] | None = None) -> dict[str, Any]:
    shapes = shapes or [(1, 4, 4)]
    return {
        "hidden_states": randn(generator, rows, sum(height * width for _, height, width in shapes), 16),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [shapes] * rows,
    }


def _padded(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT, dtype=torch.bool)
    mask[0, 3:] = False
    return _inputs(rows, generator) | {"encoder_hidden_states_mask": mask}


def _layered(rows: int, generator: Generator) -> dict[str, Any]:
    inputs = _inputs(rows, generator, [(1, 2, 4), (1, 2, 4), (1, 2, 2)])
    return inputs | {"additional_t_cond": torch.zeros(rows, dtype=torch.long)}


def _controlled(rows: int, generator: Generator) -> dict[str, Any]:
    residuals = [randn(generator, rows, 16, 32) for _ in range(2)]
    return _inputs(rows, generator) | {"controlnet_block_samples": residuals}


_IMAGE = slice(TEXT, TEXT + 16)

NETWORKS = {
    "qwen": Network(make, _inputs, PATHS, _IMAGE, row_lists=("img_shapes",)),
    "qwen padded": Network(make, _padded, PATHS, _IMAGE, row_lists=("img_shapes",)),
    "qwen control": Network(make, _controlled, PATHS, _IMAGE, row_lists=("img_shapes",)),
    "qwen edit": Network(
        lambda: make(zero_cond_t=True),
        lambda rows, generator: _inputs(rows, generator, [(1, 4, 4), (1, 2, 4), (1, 2, 2)]),
        PATHS,
        _IMAGE,
        row_lists=("img_shapes",),
    ),
    "qwen layered": Network(
        lambda: make(use_layer3d_rope=True, use_additional_t_cond=True),
        _layered,
        PATHS,
        _IMAGE,
        row_lists=("img_shapes",),
    ),
}
