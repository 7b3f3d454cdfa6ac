"""Networks of `pag.families.qwen_relatives`."""

from typing import Any

import torch
from diffusers import JoyImageEditPlusTransformer3DModel, JoyImageEditTransformer3DModel
from diffusers.models.transformers.transformer_nucleusmoe_image import NucleusMoEImageTransformer2DModel
from torch import Generator, nn

from tests.denoisers._network import Network, randn

TEXT = 5
_JOY: dict[str, Any] = {
    "in_channels": 4,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "text_dim": 16,
    "mlp_width_ratio": 1.0,
    "num_layers": 3,
    "rope_dim_list": [4, 6, 6],
}


def joy(**config: Any) -> JoyImageEditTransformer3DModel:
    return JoyImageEditTransformer3DModel(**(_JOY | config))


def joy_plus() -> JoyImageEditPlusTransformer3DModel:
    return JoyImageEditPlusTransformer3DModel(**_JOY)


def _joy_inputs(rows: int, generator: Generator, items: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, *items, 4, 1, 8, 8),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
    }


def _joy_plus_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    """Rows of what is denoised of different sizes, with one and two images as conditions, and filling."""
    mask = torch.ones(rows, TEXT)
    mask[0, 3:] = 0
    shapes = [[(1, 4, 4), (1, 2, 2)], [(1, 2, 4), (1, 2, 2), (1, 2, 4)]]
    return {
        "hidden_states": randn(generator, rows, 24, 4, 1, 2, 2),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_hidden_states_mask": mask,
        "shape_list": [shapes[row % 2] for row in range(rows)],
    }


def nucleus() -> nn.Module:
    model = NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        dense_moe_strategy="leave_first_block_dense",
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    for name, parameter in model.named_parameters():
        if ".experts." in name:  # left as memory happens to be
            nn.init.normal_(parameter, std=0.1)
    return model


def _nucleus_inputs(rows: int, generator: Generator) -> dict[str, Any]:
    mask = torch.ones(rows, TEXT, dtype=torch.bool)
    mask[0, 3:] = False
    return {
        "hidden_states": randn(generator, rows, 16, 16),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "encoder_hidden_states_mask": mask,
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [(1, 4, 4)] * rows,
    }


def image_ahead(queries: int, keys: int) -> tuple[slice, int]:
    """Text among the keys only, behind the image."""
    return slice(0, queries), 0


JOY_PATHS = ("double_blocks.0.attn", "double_blocks.2.attn")
_IMAGE = slice(0, 16)

NETWORKS = {
    "joy": Network(joy, _joy_inputs, JOY_PATHS, _IMAGE),
    "joy, one item": Network(joy, lambda rows, generator: _joy_inputs(rows, generator, ()), JOY_PATHS, _IMAGE),
    "joy plus": Network(joy_plus, _joy_plus_inputs, JOY_PATHS, [slice(0, 16), slice(0, 8)], row_lists=("shape_list",)),
    "nucleus": Network(
        nucleus,
        _nucleus_inputs,
        ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
        image_ahead,
        tables=("img_shapes",),
        xfail={"cost": "the mixture of experts counts tokens, of which tensors without data know nothing"},
    ),
}
