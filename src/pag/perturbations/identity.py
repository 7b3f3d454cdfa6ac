"""Perturbed-Attention Guidance, arXiv 2403.17377: the self-attention map becomes the identity."""

import torch
from torch import Tensor

from pag.perturbations._interface import Answers, Attend, Heads, Keys, Tokens

_SCORES, _QUERIES = 2**23, 128
"""Scores that are held at once: text is short, but a video has many tokens. And the least queries that are answered at
once, so that the work is not cut too fine."""


def identity(q: Heads, k: Keys, v: Keys, attend: Attend, tokens: Tokens) -> Heads:
    """``softmax(QKᵀ/√d)·V`` becomes ``I·V = V``: each token attends to itself alone.

    In joint attention that holds for the image's tokens among themselves. They still attend to the text, and the text
    still attends to everything: ``softmax`` runs over the text and the token itself.
    """
    if tokens.alone(q, k):
        return v
    return _with_others(q, k, v, attend, tokens, [tokens.keys])


def frame_identity(q: Heads, k: Keys, v: Keys, attend: Attend, tokens: Tokens) -> Heads:
    """The identity within each frame of a video: a token attends to itself, to other frames and to the text."""
    count = tokens.keys.stop - tokens.keys.start
    size, rest = divmod(count, tokens.frames) if tokens.frames else (0, count)
    if rest:
        raise ValueError(
            f"frame_identity needs frames of equal size, but {count} tokens are not {tokens.frames or 'any'} of them. "
            "Take the perturbation 'identity' here."
        )
    starts = range(tokens.keys.start, tokens.keys.stop, size)
    frames = [slice(start, start + size) for start in starts]
    if len(frames) == 1 and tokens.alone(q, k):
        return v
    return _with_others(q, k, v, attend, tokens, frames)


def _with_others(q: Heads, k: Keys, v: Keys, attend: Attend, tokens: Tokens, parts: list[slice]) -> Heads:
    """Tokens of each part attend to themselves and to what is outside of the part, all others to everything."""
    if attend.linear:
        raise ValueError(
            "Linear attention can be perturbed by the identity over all tokens only. Use perturbation='identity'."
        )
    if attend.causal:
        raise ValueError(
            "In causal attention the identity is known for the image alone, but other tokens attend here too."
        )
    shift = tokens.image.start - tokens.keys.start
    done: list[Tensor] = []
    if tokens.image.start > 0:
        done.append(attend(q, k, v, slice(0, tokens.image.start)))
    for part in parts:
        done.append(_itself_and_others(q, k, v, attend, slice(part.start + shift, part.stop + shift), part))
    if tokens.image.stop < q.shape[-2]:
        done.append(attend(q, k, v, slice(tokens.image.stop, q.shape[-2])))
    return torch.cat(done, dim=-2)


def _itself_and_others(q: Heads, k: Keys, v: Keys, attend: Attend, queries: slice, own: slice) -> Answers:
    """``softmax([q·k_self, q·K_others])·[v_self, V_others]``, without a map of all tokens by all tokens."""
    scale = q.shape[-1] ** -0.5 if attend.scale is None else attend.scale
    query, key, value = q[..., queries, :] * scale, k[..., own, :], v[..., own, :]
    other_keys, other_values = _without(k, own, -2), _without(v, own, -2)
    own_scores = (query * key).sum(-1, keepdim=True)
    own_mask, mask = _masks(attend.mask, queries, own)
    if own_mask is not None:
        own_scores = _masked(own_scores, own_mask)
    step = max(_QUERIES, _SCORES // max(1, q.shape[0] * q.shape[1] * other_keys.shape[-2]))
    done: list[Tensor] = []
    for start in range(0, query.shape[-2], step):
        part = slice(start, start + step)
        part_of_mask = mask if mask is None or mask.shape[-2] == 1 else mask[..., part, :]
        both = torch.cat([own_scores[..., part, :], _scores(query[..., part, :], other_keys, part_of_mask)], dim=-1)
        weights = _softmax(both).to(value.dtype)
        del both  # memory is what limits a part
        done.append(weights[..., :1] * value[..., part, :] + weights[..., 1:] @ other_values)
    return torch.cat(done, dim=-2)


def _scores(query: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = query @ keys.transpose(-1, -2)
    return scores if mask is None else _masked(scores, mask)


def _softmax(scores: Tensor) -> Tensor:
    """A token that may attend to nothing has no weights."""
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).nan_to_num()


def _masks(mask: Tensor | None, queries: slice, own: slice) -> tuple[Tensor | None, Tensor | None]:
    """The mask of each token for itself, (…, queries, 1), and for the others, (…, queries or 1, others)."""
    if mask is None:
        return None, None
    chosen = mask[..., queries, :] if mask.shape[-2] > 1 else mask
    inside = chosen[..., own]
    itself = inside.diagonal(dim1=-2, dim2=-1)[..., None] if mask.shape[-2] > 1 else inside.transpose(-1, -2)
    return itself, _without(chosen, own, -1)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask


def _without(tensor: Tensor, part: slice, dim: int) -> Tensor:
    before, after = tensor.narrow(dim, 0, part.start), tensor.narrow(dim, part.stop, tensor.shape[dim] - part.stop)
    return torch.cat([before, after], dim=dim)
