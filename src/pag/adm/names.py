"""Weights of guided-diffusion under the names that diffusers gives them."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from pag.adm.layout import Layout
from pag.adm.published import Settings
from pag.generate.errors import UserError

__all__ = ["blocks", "translate"]

_RES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "qkv": "", "proj_out": "to_out.0"}
_CONV = {"op": "conv", "conv": "conv"}
_INNER = {"res": _RES, "attention": _ATTENTION, "conv": _CONV}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_POOL = {"positional_embedding": "positional_embedding", "qkv_proj": "", "c_proj": "to_out"}


def blocks(layout: Layout) -> Iterator[tuple[str, str, str]]:
    """The path of each residual block, attention and convolution there and here, and what it is."""
    each = layout.res_blocks + 1
    for index, (level, members) in enumerate(layout.down()):
        for member, kind in enumerate(members):
            last = index % each == layout.res_blocks and level < layout.levels - 1
            path = f"down_blocks.{level}.{_list(kind, last, 'down')}.{0 if last else index % each}"
            yield f"input_blocks.{index + 1}.{member}", path, kind
    yield "middle_block.0", "mid_block.resnets.0", "res"
    yield "middle_block.1", "mid_block.attentions.0", "attention"
    yield "middle_block.2", "mid_block.resnets.1", "res"
    if layout.classifier:
        return
    for index, (level, members) in enumerate(layout.up()):
        for member, kind in enumerate(members):
            last = member > 0 and kind != "attention"
            path = f"up_blocks.{layout.levels - 1 - level}.{_list(kind, last, 'up')}.{0 if last else index % each}"
            yield f"output_blocks.{index}.{member}", path, kind


def _list(kind: str, resampler: bool, way: str) -> str:
    if resampler:
        return f"{way}samplers"
    return "attentions" if kind == "attention" else "resnets"


def translate(weights: Mapping[str, Tensor], layout: Layout, settings: Settings) -> dict[str, Tensor]:
    """All weights of a model by their names in diffusers. None of them is copied unless its shape changes.

    Raises:
        UserError: there are weights that no model of this layout has.
    """
    paths = _paths(layout)
    translated: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        old, _, end = name.rpartition(".")
        if name == "out.2.positional_embedding" and layout.classifier:
            translated["pool.positional_embedding"] = tensor
        elif old not in paths:
            raise UserError(f"{name} is no weight of a guided-diffusion model of this kind")
        elif paths[old].endswith("."):  # of queries, keys and values
            order = "new" if old == "out.2.qkv_proj" else settings.order
            parts = _split(tensor, settings.heads_of(tensor.shape[0] // 3), order == "legacy")
            for part, value in zip(("to_q", "to_k", "to_v"), parts, strict=True):
                translated[f"{paths[old]}{part}.{end}"] = value
        else:
            linear = paths[old].endswith(("to_out.0", "pool.to_out"))
            translated[f"{paths[old]}.{end}"] = tensor.flatten(1) if linear and tensor.ndim > 2 else tensor
    return translated


def _paths(layout: Layout) -> dict[str, str]:
    paths = dict(_ENDS)
    if layout.classifier:
        paths |= {f"out.2.{old}": f"pool.{new}" for old, new in _POOL.items()}
    for old, new, kind in blocks(layout):
        paths |= {f"{old}.{inner}": f"{new}.{name}" for inner, name in _INNER[kind].items()}
    return paths


def _split(tensor: Tensor, heads: int, legacy: bool) -> list[Tensor]:
    """Queries, keys and values of one projection of (3 · channels) rows, as three."""
    each = tensor.shape[0] // (3 * heads)
    rest = tensor.shape[1:2]
    shape = (heads, 3, each) if legacy else (3, heads, each)
    parts = tensor.reshape(*shape, *rest).unbind(1 if legacy else 0)
    return [part.reshape(heads * each, *rest).contiguous() for part in parts]
