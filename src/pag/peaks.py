"""How much memory guidance takes: the bytes of activations that are alive at once, counted on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from pag.counters import PeakMemory
from pag.guidance import Guidance
from pag.intercept import AttentionOp
from pag.layers import Layers, automatic, select
from pag.meta import example_of, fused_attention, guided_on_meta, on_meta, run_on_meta


@dataclass(frozen=True)
class Memory:
    """The most that activations of one denoiser call take for one image, in bytes.

    Neither weights nor the arguments of the call are counted, nor what a kernel takes for itself while it runs.
    Attention is one operation without a map.

    Args:
        plain: without guidance; with classifier-free guidance two rows.
        rows: a batch with one row more, which is what other tools run.
        guided: what is run here.
        low_memory: what is run here with ``low_memory=True``.
    """

    plain: int
    rows: int
    guided: int
    low_memory: int

    def __str__(self) -> str:
        plain, rows, all_at_once, low = (
            f"{size / 2**20:.0f}" for size in (self.plain, self.rows, self.guided, self.low_memory)
        )
        return f"{all_at_once} MiB ({low} with low_memory, {plain} without guidance, {rows} with a row more)"


def memory(pipe_or_model: Any, layers: Layers | None = None, *, cfg: bool = True) -> Memory:
    """Count the memory of one guided step at the size that the model was trained for.

    Args:
        pipe_or_model: a pipeline or its denoiser, of which only the configuration is read. Bytes are those of float32.
        layers: the layers to perturb; default: those recommended for the family.
        cfg: whether classifier-free guidance is on.

    Raises:
        ValueError: if a layer does not exist.
        RuntimeError: if the model asks its tensors for values, which those that are counted do not have.
    """
    model, family = on_meta(pipe_or_model)
    chosen = select(family.sites(model), family.recommended(model) if layers is None or automatic(layers) else layers)
    passed = 2 if cfg and not family.packed else 1

    def plain(rows: int) -> int:
        return _peak(model, partial(run_on_meta, model, example_of(model, family, rows)))

    def guided(**settings: Any) -> int:
        return _peak(model, partial(guided_on_meta, model, family, chosen, passed == 2, Guidance(**settings)))

    return Memory(plain(passed), plain(passed + 1), guided(), guided(low_memory=True))


def _peak(model: nn.Module, run: Callable[[Any], None]) -> int:
    peak = PeakMemory()
    arguments = model.register_forward_pre_hook(peak.leave_out, with_kwargs=True)
    try:
        with AttentionOp(fused_attention):
            run(peak)
    finally:
        arguments.remove()
    return peak.bytes
