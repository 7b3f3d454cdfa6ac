"""Where self-attention is in a transformer: attention modules in its lists of blocks, by the end of their path."""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

from torch import nn

from pag.layers import Site

SELF_ATTENTION = re.compile(r"\.(attn1?|self_attn|self_attention|attention)$")
"""What most transformers call the attention of tokens among themselves, alone or together with the text."""


QUERIES_AND_KEYS = ("to_q", "to_k", "to_query", "to_key", "q_proj", "k_proj")
"""What the matrices of an attention module are called that make nothing but queries or keys."""


def transformer_sites(
    *stacks: str, ends: str | re.Pattern[str] = SELF_ATTENTION, names: tuple[str, ...] = ()
) -> Callable[[nn.Module], tuple[Site, ...]]:
    """A family's ``sites``: the attention modules of the stacks of blocks whose path ends as said.

    Args:
        stacks: children of the model that are lists of blocks, in the order in which they run.
        ends: a regular expression found in the path.
        names: short names of the stacks, such as ``("double", "single")``, if there is more than one.
    """

    def sites(model: nn.Module) -> tuple[Site, ...]:
        found: list[Site] = []
        for stack, name in zip(stacks, names or ("",) * len(stacks), strict=True):
            for index, path, module in _attentions(model, stack):
                if re.search(ends, path):
                    block = f"{name}.{index}" if name else str(index)
                    found.append(Site(path, "", "", heads_of(module), channels_of(module), block))
        return tuple(found)

    return sites


def _attentions(model: nn.Module, stack: str) -> Iterator[tuple[int, str, nn.Module]]:
    blocks: Any = reduce(lambda module, name: getattr(module, name, ()), stack.split("."), model)
    for index, block in enumerate(blocks):
        for path, module in block.named_modules(prefix=f"{stack}.{index}"):
            if hasattr(module, "processor"):
                yield index, path, module


def text_enters_at(path: str) -> Callable[[nn.Module], str | None]:
    """A family's ``text_entry``: that module of every model that has it."""

    def entry(model: nn.Module) -> str | None:
        return path if path in dict(model.named_modules()) else None

    return entry


def heads_of(attention: Any) -> int:
    """Number of attention heads of an attention module."""
    return next((int(n) for name in ("heads", "num_heads", "n_heads") if (n := getattr(attention, name, 0))), 0)


def channels_of(attention: Any) -> int:
    """Width of an attention module's queries over all heads."""
    for name in ("to_q", "q_proj", "to_query"):
        if (projection := getattr(attention, name, None)) is not None:
            return int(projection.out_features)
    output = getattr(attention, "to_out", None)  # tells where one projection makes queries, keys and values
    return int(getattr(attention, "inner_dim", 0) or getattr(output, "in_features", 0))


def projected_text(model: nn.Module) -> tuple[str, ...]:
    """Where the text is read that goes through ``caption_projection`` first."""
    return ("caption_projection",) if getattr(model, "caption_projection", None) is not None else ()
