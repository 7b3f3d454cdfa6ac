"""Networks of `pag.families.cosmos`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from diffusers.models.controlnets import controlnet_cosmos
from diffusers.models.transformers import transformer_cosmos
from diffusers.utils import is_torchvision_available
from torch import Generator, Tensor

from tests.denoisers._network import Network, randn

TEXT = 5


def _resize(mask: Tensor, size: list[int], interpolation: str) -> Tensor:
    return F.interpolate(mask, size, mode=interpolation)


# The networks resize one mask by torchvision, and need nothing else of it.
if not is_torchvision_available():
    for module in (transformer_cosmos, controlnet_cosmos):
        module.transforms = SimpleNamespace(  # pyright: ignore
            functional=SimpleNamespace(resize=_resize), InterpolationMode=SimpleNamespace(NEAREST="nearest")
        )


def _make(**config: Any) -> CosmosTransformer3DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 3,
        "mlp_ratio": 2,
        "text_embed_dim": 16,
        "adaln_lora_dim": 4,
        "max_size": (4, 32, 32),
        "patch_size": (1, 2, 2),
        "rope_scale": (2.0, 1.0, 1.0),
    }
    return CosmosTransformer3DModel(**(tiny | config))


def _inputs(rows: int, generator: Generator) -> dict[str, Any]:
    return {
        "hidden_states": randn(generator, rows, 4, 3, 4, 4),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": randn(generator, rows, TEXT, 16),
        "fps": 16,
        "padding_mask": torch.zeros(1, 1, 32, 32),
    }


def _conditioned(rows: int, generator: Generator) -> dict[str, Any]:
    """The first frame is given: it has a noise level of its own."""
    given = torch.zeros(rows, 1, 3, 4, 4)
    given[:, :, :1] = 1
    return _inputs(rows, generator) | {
        "timestep": torch.tensor([0.1, 0.5, 0.5]).view(1, 1, 3, 1, 1).repeat(rows, 1, 1, 1, 1),
        "condition_mask": given,
    }


def _controlled(rows: int, generator: Generator) -> dict[str, Any]:
    text, picture = randn(generator, rows, TEXT, 12), randn(generator, rows, 4, 8)
    residuals = [randn(generator, rows, 12, 32) for _ in range(2)]
    texts = {"encoder_hidden_states": (text, picture), "block_controlnet_hidden_states": residuals}
    return _conditioned(rows, generator) | texts


PATHS = ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1")

NETWORKS = {
    "cosmos": Network(_make, _inputs, PATHS, frames=3, tables=("padding_mask",)),
    "cosmos2": Network(
        lambda: _make(in_channels=5, extra_pos_embed_type=None), _conditioned, PATHS, frames=3, tables=("padding_mask",)
    ),
    "cosmos25": Network(
        lambda: _make(
            in_channels=5,
            extra_pos_embed_type=None,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=12,
            encoder_hidden_states_channels=16,
            controlnet_block_every_n=2,
            img_context_dim_in=8,
            img_context_num_tokens=4,
            img_context_dim_out=32,
        ),
        _controlled,
        PATHS,
        frames=3,
        tables=("padding_mask",),
    ),
}
