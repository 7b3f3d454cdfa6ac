"""A denoiser that is in no family, read by its structure: what can be trusted, or a word on what to write."""

import inspect
import re
from collections.abc import Callable, Iterator
from math import ceil, prod
from typing import Any

from torch import Tensor, nn

from pag.families._family import Attending, Convention, Family
from pag.families._sites import SELF_ATTENTION, channels_of, heads_of
from pag.layers import Site

_SAMPLES = ("hidden_states", "sample")
_TEXT = re.compile(r"text|prompt|context|encoder_hidden")
_CROSS = re.compile(r"\.(attn2|[a-z_]*cross[a-z_]*)$")
_JOINT = ("add_q_proj", "add_k_proj", "to_added_qkv", "added_kv_proj_dim")
_OVER_TIME = re.compile(r"temp|motion")
_BLOCK = re.compile(r"(?P<stack>.*?)\.(?P<index>\d+)\.")

ENTRY = """
    from pag.families import Family, after_text, register, transformer_sites

    register(
        Family(
            models=({name!r},),
            sites=transformer_sites("transformer_blocks"),  # the lists of blocks whose self-attention may be perturbed
            sample="hidden_states",  # the argument that is denoised
            image=after_text,  # where the image's tokens are; leave it out if there are no others
        )
    )
"""


def generic_family(model: nn.Module) -> Family:
    """What the modules of a network of an unknown class tell, as a family.

    Self-attention is where a diffusers attention module in a list of blocks says so, or its name does. The first
    guided call of a run checks what has been read. No rows are shared: which arguments carry them is not known.

    Raises:
        TypeError: if the modules do not tell enough.
    """
    names = tuple(inspect.signature(type(model).forward).parameters)
    sample = next((name for name in _SAMPLES if name in names), None)
    if doubt := _doubt(model, names, sample):
        raise TypeError(
            f"{type(model).__name__} cannot be guided: its family is not known, and {doubt}. If you know better, say "
            f"so before you guide it:\n{ENTRY.format(name=type(model).__name__)}\n"
            "Other possible facts are those of `pag.families.Family`."
        )
    return Family(
        models=(type(model).__name__,),
        sites=_sites,
        source="the middle one of the self-attention layers that were found, by analogy with arXiv 2403.17377",
        sample=sample or "",
        image=_all_tokens(sample or ""),
        variance=_doubled,
        convention=Convention(guess=True),
        guess=True,
    )


def _doubt(model: nn.Module, names: tuple[str, ...], sample: str | None) -> str | None:
    if sample is None or "timestep" not in names:
        return f"its forward has no arguments {' or '.join(map(repr, _SAMPLES))} and 'timestep'"
    attentions = dict(_attentions(model))
    if joint := next((path for path, one in attentions.items() if _is_joint(path, one)), None):
        return f"{joint} is joint attention, whose tokens of the image nothing tells"
    if not _sites(model):
        return "no self-attention of diffusers' kind, with a `processor`, is found in a list of blocks"
    text = next((name for name in names if _TEXT.search(name)), None)
    if text and not any(_is_cross(path, one) for path, one in attentions.items()):
        return f"it takes {text!r} but has no cross-attention, so that text may be among the image's tokens"
    return None


def _attentions(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        if hasattr(module, "processor") and _BLOCK.match(path):
            yield path, module


def _sites(model: nn.Module) -> tuple[Site, ...]:
    found = [(path, module) for path, module in _attentions(model) if _is_self(path, module)]
    stacks = {match["stack"] for path, _ in found if (match := _BLOCK.match(path))}
    return tuple(
        Site(path, "", "", heads_of(module), channels_of(module), _index(path) if len(stacks) == 1 else "")
        for path, module in found
    )


def _index(path: str) -> str:
    match = _BLOCK.match(path)
    return match["index"] if match else ""


def _is_self(path: str, attention: Any) -> bool:
    if _OVER_TIME.search(path):  # a pixel's attention to itself in other frames
        return False
    if (cross := getattr(attention, "is_cross_attention", None)) is not None:
        return not cross
    return SELF_ATTENTION.search(path) is not None


def _is_cross(path: str, attention: Any) -> bool:
    cross = getattr(attention, "is_cross_attention", None)
    return bool(cross) if cross is not None else _CROSS.search(path) is not None


def _is_joint(path: str, attention: Any) -> bool:
    # Attention to a text and an image alone has such projections too.
    return not _is_cross(path, attention) and any(getattr(attention, name, None) is not None for name in _JOINT)


def _doubled(model: Any) -> bool:
    config = getattr(model, "config", None)
    given, returned = (getattr(config, name, None) for name in ("in_channels", "out_channels"))
    return isinstance(given, int) and returned == 2 * given


def _all_tokens(sample: str) -> Callable[[Attending], slice]:
    def image(attending: Attending) -> slice:
        given = attending.call[sample]
        if not isinstance(given, Tensor):
            raise TypeError(f"{sample} is no tensor but {type(given).__name__}. Register the family of the network.")
        if attending.keys == attending.queries and _covers(given, attending.queries):
            return slice(0, attending.queries)
        raise ValueError(
            f"{attending.site.path} attends with {attending.queries} tokens to {attending.keys}, which are no grid "
            f"over {sample} of shape {tuple(given.shape)}. There are others among the image's, and where, a `Family` "
            "must tell: see `pag.families.register`."
        )

    return image


def _covers(sample: Tensor, tokens: int) -> bool:
    """Whether that many tokens can be patches of the sample: all of it, or each frame."""
    if sample.ndim <= 3:
        return tokens == sample.shape[1]
    *frames, height, width = sample.shape[2:]
    counts = {1} | {ceil(prod(frames) / patch) for patch in range(1, prod(frames) + 1)}
    grids = {ceil(height / patch) * ceil(width / patch) for patch in range(1, max(height, width) + 1)}
    return any(tokens == count * grid for count in counts for grid in grids)
