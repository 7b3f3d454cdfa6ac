"""Networks of `pag.families.qwen`."""

from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21Transformer2DModel
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


def make_21(**config: Any) -> QwenImage21Transformer2DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 3,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "context_in_dim": 16,
        "axes_dims_rope": (4, 6, 6),
    }
    return QwenImage21Transformer2DModel(**(tiny | config))


def _text_21(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [[(1, 4, 4)]] * rows,
        "img_mask": torch.tensor([[False] * TEXT + [True] * 4] * rows),
    }


def _padded_21(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT, dtype=torch.bool)
    mask[0, 3:] = False
    return _text_21(rows, generator) | {"encoder_hidden_states_mask": mask}


def _edit_21(rows: int, generator: Generator) -> dict[str, Any]:
    """An image of 2×2 tokens stands as one slot in the text, behind two of its tokens."""
    return _text_21(rows, generator) | {
        "hidden_states": randn(generator, rows, 4 + 16, 4),
        "encoder_hidden_states": randn(generator, rows, TEXT + 1, 16),
        "img_shapes": [[(1, 2, 2), (1, 4, 4)]] * rows,
        "img_mask": torch.tensor([[False] * 2 + [True] + [False] * 3 + [True] * 4] * rows),
    }


def image_21(others: int) -> Any:
    """The operation of the image behind that many other tokens, of the several that a layer makes."""
    return lambda queries, keys: (slice(0, 16), others) if (queries, keys) == (16, others + 16) else None  # pyright: ignore


_IMAGE = slice(TEXT, TEXT + 16)
_NOT_ON_META = {"cost": "the network looks up values of its masks, which tensors without data do not have"}

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
    **{
        f"qwen 2.1{name}": Network(make, inputs, PATHS, image_21(others), ("img_shapes", "img_mask"), xfail=xfail)
        for name, make, inputs, others, xfail in (
            ("", make_21, _text_21, TEXT, _NOT_ON_META),
            (" padded", make_21, _padded_21, TEXT, _NOT_ON_META),
            (" edit", make_21, _edit_21, TEXT + 4, _NOT_ON_META),
            (" not causal", lambda: make_21(causal_condition=False), _edit_21, TEXT + 4, dict[str, str]()),
        )
    },
}
