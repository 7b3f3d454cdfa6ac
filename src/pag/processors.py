"""Attention whose operation can be answered for, where diffusers computes it without calling one.

Each function stands for an attention processor of diffusers, named in :data:`REPLACEMENTS`. It computes the same, up to
rounding, but for the operation itself, which it leaves to ``attend(op, q, k, v)``.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attending = Callable[..., Tensor]
"""``(op, q, k, v, **options)``: answers for the operation ``op``."""


def linear_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    """``φ(q)·Σ φ(k)ᵀv / φ(q)·Σ φ(k)ᵀ`` (arXiv 2006.16236), of queries and keys that went through φ already.

    The weight of a key is the product of query and key, in place of its exponential.
    """
    values = F.pad(v, (0, 1), value=1.0)
    sums = q @ (k.transpose(-1, -2) @ values)
    return sums[..., :-1] / (sums[..., -1:] + 1e-15)


def unnormalized_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """``q·Σ kᵀv``: the same for queries that were divided by the sum of their weights before."""
    return q @ (k.transpose(-1, -2) @ v)


def sana(attend: Attending, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Sana's linear attention."""
    q, k, v = (_heads(attn, tensor) for tensor in _rectified(attn, hidden_states))
    return _out(attn, attend(linear_attention, q, k, v, linear=True), hidden_states)


def sana_video(
    attend: Attending, attn: Any, hidden_states: Tensor, rotary_emb: tuple[Tensor, Tensor], **kwargs: Any
) -> Tensor:
    """SANA-Video's linear attention, where the weights are rotated, but not those in the denominator."""
    q, k, v = (_heads(attn, tensor) for tensor in _rectified(attn, hidden_states))
    sums = q @ k.sum(-2, keepdim=True).transpose(-1, -2) + 1e-15
    q, k = (_rotated(tensor, *rotary_emb) for tensor in (q, k))
    return _out(attn, attend(unnormalized_linear_attention, q / sums, k, v, linear=True), hidden_states)


def anyflow_causal(
    attend: Attending,
    attn: Any,
    hidden_states: Tensor,
    rotary_emb: dict[str, Tensor],
    kv_cache: dict[str, Tensor] | None = None,
    kv_cache_flag: dict[str, int] | None = None,
    **kwargs: Any,
) -> Tensor:
    """AnyFlow's attention to the frames of earlier chunks, whose keys and values are kept.

    Like diffusers, it fills the sequence up to a multiple of 128 with keys of zero, which are attended to. So that each
    token is its own key, earlier tokens get queries, too.
    """
    if kv_cache is None or kv_cache_flag is None:
        raise ValueError("AnyFlow's causal attention can be perturbed with its cache only: pass `use_kv_cache=True`.")
    q, k, v = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(hidden_states)), attn.to_v(hidden_states)
    q, k, v = (x.to(hidden_states.dtype).unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
    names = ("compressed", "full")
    kept = [kv_cache[f"{name}_cache"][:, :, :, : kv_cache_flag[f"num_cached_{name}_tokens"]] for name in names]
    k, v = (torch.cat([*(part[index] for part in kept), x], dim=2) for index, x in enumerate((k, v)))
    q, k = _turned(q, rotary_emb["query"]), _turned(k, rotary_emb["key"])
    earlier, fill = k.shape[2] - q.shape[2], -q.shape[2] % 128
    q, (k, v) = F.pad(q, (0, 0, earlier, fill)), (F.pad(x, (0, 0, 0, fill)) for x in (k, v))
    answers = F.scaled_dot_product_attention(q, k, v)[:, :, earlier : q.shape[2] - fill]
    return attn.to_out[1](attn.to_out[0](answers.transpose(1, 2).flatten(2)))


def _turned(tensor: Tensor, angles: Tensor) -> Tensor:
    """Pairs of channels as complex numbers, turned by complex numbers of length 1."""
    pairs = torch.view_as_complex(tensor.to(angles.real.dtype).unflatten(3, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(3).type_as(tensor)


def _rectified(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = attn.to_q(x), attn.to_k(x), attn.to_v(x)
    if attn.norm_q is not None:
        q = attn.norm_q(q)
    if attn.norm_k is not None:
        k = attn.norm_k(k)
    return F.relu(q), F.relu(k), v


def _heads(attn: Any, tensor: Tensor) -> Tensor:
    """(rows, heads, tokens, dim) in full precision, as sums over all tokens need."""
    return tensor.unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()


def _rotated(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of channels turned by angles of shape (1, tokens, 1, dim)."""
    cos, sin = (table.transpose(1, 2) for table in (cos[..., 0::2], sin[..., 1::2]))
    one, other = tensor.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (one * cos - other * sin, one * sin + other * cos)
    return torch.stack(turned, dim=-1).flatten(-2).to(tensor.dtype)


def _out(attn: Any, answers: Tensor, like: Tensor) -> Tensor:
    flat = answers.transpose(1, 2).flatten(2).to(like.dtype)
    output = attn.to_out[1](attn.to_out[0](flat))
    return output.clip(-65504, 65504) if output.dtype == torch.float16 else output


class _WithoutOutput:
    """An attention module whose processor leaves the last projection out."""

    def __init__(self, attn: Any) -> None:
        self._attn = attn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attn, name)

    @staticmethod
    def out_layer(answers: Tensor) -> Tensor:
        return answers


def block_sparse(attend: Attending, attn: Any, hidden_states: Tensor, rotary_emb: Tensor, sparse: Any) -> Tensor:
    """Kandinsky's sparse attention, whose processor chooses by queries and keys which blocks of tokens see each other.

    What asks gets the values in place of queries and keys too: the pattern of blocks is the processor's own affair.
    """

    def operation(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        rows = q.shape[0]
        rotary = rotary_emb[:rows] if rotary_emb.ndim == 6 else rotary_emb  # Kandinsky 5 has a table for each row
        answers = attn.processor(_WithoutOutput(attn), hidden_states[:rows], rotary_emb=rotary, sparse_params=sparse)
        return answers.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)

    values = attn.to_value(hidden_states).unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
    return attn.out_layer(attend(operation, values, values, values).transpose(1, 2).flatten(2))


REPLACEMENTS: dict[str, Callable[..., Tensor]] = {
    "AnyFlowCausalAttnProcessor": anyflow_causal,
    "SanaLinearAttnProcessor2_0": sana,
    "SanaLinearAttnProcessor3_0": sana_video,
}
"""By class name of the processor: ``(attend, attention, *args, **kwargs)``, with the arguments of the module's call."""

SPARSE = ("Kandinsky5AttnProcessor", "Kandinsky6SRAttnProcessor")
"""Processors that :func:`block_sparse` stands for where they are given the argument ``sparse_params``."""
