"""One attention operation at a site, inside of a guided call."""

from collections.abc import Mapping
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from pag.intercept import Call, input_names
from pag.layers import Site
from pag.perturbations import Attend, Tokens
from pag.rows import Rows


class Answering(Protocol):
    """What goes on around an operation."""

    def part(self) -> None:
        """From here on no two groups of rows are equal."""
        ...

    def need_map(self, place: "Place") -> None:
        """A site's perturbed rows do need their queries and keys."""
        ...

    def perturbed(
        self, place: "Place", inputs: Mapping[str, Any], q: Tensor, k: Tensor, v: Tensor, attend: Attend, rows: slice
    ) -> Tensor:
        """The perturbed attention at a site."""
        ...

    def look(self, place: "Place", inputs: Mapping[str, Any], q: Tensor, k: Tensor, attend: Attend) -> None:
        """Look at the attention at a site."""
        ...


@final
class Place:
    """A layer to perturb.

    Its state is its own, so that what torch.compile traces is the same in blocks that are of one kind.
    """

    def __init__(self, site: Site, module: nn.Module) -> None:
        self.site, self.module, self.inputs = site, module, input_names(module)
        self.reached = False
        """Whether the guided call perturbed it."""
        self.skips_map = False
        """Whether its perturbed rows need no queries and keys."""
        self.seen: Tensor | None = None
        """What was seen of its attention, where methods look at that."""


@final
class Operation:
    """Answers for the attention operation inside one call of a site."""

    def __init__(self, forward: Answering, rows: Rows, place: Place, inputs: Mapping[str, Any]) -> None:
        self._forward, self._rows, self._place, self._inputs = forward, rows, place, inputs
        self._row = 0

    def __call__(
        self,
        op: Call,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """Answer for the operation ``op``."""
        options |= {"dropout_p": dropout_p, "is_causal": is_causal}
        if key.shape[-2] < query.shape[-2]:  # attention to something else, such as the image of an IP-Adapter
            self._forward.need_map(self._place)
            return op(query, key, value, attn_mask, **options)
        attn_mask = _with_rows(attn_mask, query)
        self._forward.part()
        rows = self._rows
        if not rows.normal:  # all rows are perturbed ones
            output = self._perturbed(op, query, key, value, attn_mask, options, slice(0, rows.total))
            return output.transpose(1, 2).contiguous().transpose(1, 2)  # see below
        if query.shape[0] == 1 < rows.total:  # a processor that goes through the rows one by one
            row, self._row = self._row, self._row + 1
            if row < rows.normal:
                return op(query, key, value, attn_mask, **options)
            return self._perturbed(op, query, key, value, attn_mask, options, slice(row, row + 1))
        q, k, v = (rows.split(tensor) for tensor in (query, key, value))
        normal_mask, mask = (None, None) if attn_mask is None else rows.split(attn_mask)
        normal = op(q[0], k[0], v[0], normal_mask, **options)
        perturbed = self._perturbed(op, q[1], k[1], v[1], mask, options, slice(rows.normal, rows.total))
        # Heads next to their dimension in memory, as fused attention kernels leave them: some processors count on it.
        return torch.cat([normal.transpose(1, 2), perturbed.transpose(1, 2)]).transpose(1, 2)

    def _perturbed(
        self, op: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any], rows: slice
    ) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:  # grouped queries
            k, v = (tensor.repeat_interleave(groups, dim=1) for tensor in (k, v))
        attend = Attend(op, mask, **options)
        return self._forward.perturbed(self._place, self._inputs, q, k, v, attend, rows)


@final
class Looking:
    """Answers for it where all rows are the network's own, and the attention of a group of them is looked at."""

    def __init__(self, forward: Answering, rows: Rows, group: str, place: Place, inputs: Mapping[str, Any]) -> None:
        self._forward, self._rows, self._group, self._place, self._inputs = forward, rows, group, place, inputs

    def __call__(
        self, op: Call, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Answer for the operation ``op``."""
        # Neither attention to something else, nor a processor that goes through the rows one by one.
        if key.shape[-2] >= query.shape[-2] and query.shape[0] == self._rows.total:
            self._forward.part()
            own = self._rows.span(self._group)
            mask = _with_rows(attn_mask, query)
            mask = mask if mask is None or mask.shape[0] == 1 else mask[own]
            self._forward.look(self._place, self._inputs, query[own], key[own], Attend(op, mask, **options))
        return op(query, key, value, attn_mask, **options)


def _with_rows(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A mask may begin with heads or queries, not with rows."""
    return mask if mask is None or mask.ndim >= query.ndim else mask[(None,) * (query.ndim - mask.ndim)]


def tokens_between(image: slice, shift: int, frames: int) -> Tokens:
    """The image's tokens, which lie further on among the keys."""
    return Tokens(image, slice(image.start + shift, image.stop + shift), frames)
