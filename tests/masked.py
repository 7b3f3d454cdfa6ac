"""Perturbed self-attention for all rows by a dense mask: slow, plain, and nothing of `pag`."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Places = Callable[[int, int], tuple[slice, int] | None]
Image = slice | Sequence[slice] | Places | None


def identity_mask(
    queries: int, keys: int, image: slice, frames: int | None = None, offset: int | None = None
) -> Tensor:
    """What may be attended to, (queries, keys): tokens of the image (of the same frame) only to themselves."""
    allowed = torch.ones(queries, keys, dtype=torch.bool)
    offset = keys - queries if offset is None else offset
    start, stop = image.start, image.stop
    size = (stop - start) // (frames or 1)
    for query in range(start, stop):
        frame = start + (query - start) // size * size
        allowed[query, frame + offset : frame + size + offset] = False
        allowed[query, query + offset] = True
    return allowed


@contextmanager
def perturbed(model: nn.Module, path: str, image: Image = None, frames: int | None = None) -> Generator[None]:
    """The network with the identity for attention map among the image's tokens, at one layer.

    Args:
        model: the network.
        path: module path of the attention.
        image: positions of the image's tokens among the queries, for all rows or for each; None: all tokens. Or a
            function of the numbers of queries and keys, for layers that make several operations: where the image is
            among the queries and how much further among the keys, or None if it is not the image's self-attention.
        frames: if given, the identity holds within each frame only.
    """
    module, plain, hits = model.get_submodule(path), F.scaled_dot_product_attention, [0]
    forward = module.forward

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
    ):
        place, offset = _place(image, query.shape[-2], key.shape[-2])
        if place is None:
            return plain(query, key, value, attn_mask, *args, **kwargs)
        row, hits[0] = hits[0], hits[0] + 1
        where = place
        if isinstance(where, slice):
            allowed = identity_mask(query.shape[-2], key.shape[-2], where, frames, offset)
        elif query.shape[0] == 1:  # a processor that goes through the rows one by one
            allowed = identity_mask(query.shape[-2], key.shape[-2], where[row], frames)
        else:
            each = [identity_mask(query.shape[-2], key.shape[-2], one, frames) for one in where]
            allowed = torch.stack(each)[:, None]
        mask = torch.zeros(allowed.shape, dtype=query.dtype).masked_fill(~allowed, float("-inf"))
        if attn_mask is not None:
            given = attn_mask
            if given.dtype == torch.bool:
                given = torch.zeros(given.shape, dtype=query.dtype).masked_fill(~given, float("-inf"))
            mask = mask + given
        return plain(query, key, value, mask, *args, **kwargs)

    def masked(*args: Any, **kwargs: Any) -> Any:
        hits[0] = 0
        with mock.patch.object(F, "scaled_dot_product_attention", attention):
            output = forward(*args, **kwargs)
        assert hits[0], f"{path} makes no call of the attention operation"
        return output

    with mock.patch.object(module, "forward", masked):
        yield


def _place(image: Image, queries: int, keys: int) -> tuple[slice | Sequence[slice] | None, int]:
    if callable(image):
        return image(queries, keys) or (None, 0)
    if keys < queries:
        return None, 0
    return slice(0, queries) if image is None else image, keys - queries


def perturbs(model: nn.Module, path: str, image: Image, reference: Callable[[nn.Module, str], Any] | None) -> Any:
    """The context manager to use for a network."""
    return perturbed(model, path, image) if reference is None else reference(model, path)
