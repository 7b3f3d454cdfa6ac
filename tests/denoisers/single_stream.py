"""Networks of `pag.families.single_stream`."""

from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Generator

from tests.denoisers._network import Network, randn

Z_PATHS = ("noise_refiner.0.attention", "layers.0.attention", "layers.1.attention")


def z_image(**config: Any) -> ZImageTransformer2DModel:
    tiny: dict[str, Any] = {
        "in_channels": 4,
        "dim": 32,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 16,
        "axes_dims": [4, 6, 6],
        "axes_lens": [256, 32, 32],
    }
    return ZImageTransformer2DModel(**(tiny | config))


def _lists(rows: int, generator: Generator, *lengths: int) -> dict[str, Any]:
    return {
        "x": [randn(generator, 4, 1, 8, 8) for _ in range(rows)],
        "t": torch.full((rows,), 0.5),
        "cap_feats": [randn(generator, (lengths or (5, 5))[row % 2], 16) for row in range(rows)],
    }


def _controlled(rows: int, generator: Generator) -> dict[str, Any]:
    return _lists(rows, generator) | {"controlnet_block_samples": {0: randn(generator, rows, 64, 32)}}


def _omni(rows: int, generator: Generator, *lengths: int) -> dict[str, Any]:
    """An image of 3×3 tokens is a condition of one of 4×4, with a text ahead of each and one after."""
    texts = [[(lengths or (5, 5))[row % 2], 3, 3] for row in range(rows)]
    return {
        "x": [[randn(generator, 4, 1, 6, 6), randn(generator, 4, 1, 8, 8)] for _ in range(rows)],
        "t": torch.full((rows,), 0.5),
        "cap_feats": [[randn(generator, length, 16) for length in each] for each in texts],
        "siglip_feats": [[randn(generator, 2, 2, 8), None] for _ in range(rows)],
        "image_noise_mask": [[0, 1] for _ in range(rows)],
    }


def _in_omni(*starts: int) -> dict[str, Any]:
    slices = [slice(start, start + 16) for start in starts]
    image = slices[0] if len(slices) == 1 else slices
    return {"noise_refiner.0.attention": slice(32, 48), "layers.0.attention": image, "layers.1.attention": image}


_LISTS = ("x", "cap_feats", "siglip_feats", "image_noise_mask")

NETWORKS = {
    "z-image": Network(z_image, _lists, Z_PATHS, slice(0, 16), row_lists=_LISTS, uncond=("cap_feats",)),
    "z-image padded": Network(
        z_image,
        lambda rows, generator: _lists(rows, generator, 5, 40),
        Z_PATHS,
        slice(0, 16),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
    "z-image control": Network(z_image, _controlled, Z_PATHS, slice(0, 16), row_lists=_LISTS, uncond=("cap_feats",)),
    "z-image omni": Network(
        lambda: z_image(siglip_feat_dim=8),
        _omni,
        Z_PATHS,
        _in_omni(3 * 32 + 32),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
    "z-image omni padded": Network(
        lambda: z_image(siglip_feat_dim=8),
        lambda rows, generator: _omni(rows, generator, 5, 40),
        Z_PATHS[1:],
        _in_omni(3 * 32 + 32, 4 * 32 + 32),
        row_lists=_LISTS,
        uncond=("cap_feats",),
    ),
}
