"""How much memory guidance takes: the bytes of activations that are alive at once, counted on the meta device."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, UntypedStorage, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pag.costs import example_of, guided_on_meta, on_meta, run_on_meta
from pag.guidance import Guidance
from pag.layers import Layers, automatic, select


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
        with _FusedAttention():
            run(peak)
    finally:
        arguments.remove()
    return peak.bytes


@final
class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside this context, on any device.

    Attributes:
        bytes: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._alive = 0
        self._counted: weakref.WeakKeyDictionary[UntypedStorage, Any] = weakref.WeakKeyDictionary()

    def leave_out(self, module: nn.Module, *arguments: Any) -> None:
        """A hook: do not count what a module is called with."""
        for storage in _storages(arguments):
            if free := self._counted.get(storage):
                free()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What an operation is given and was not made here belongs to somebody else, and so do its views.
        others = [storage for storage in _storages((args, kwargs)) if storage not in self._counted]
        output = func(*args, **(kwargs or {}))
        for storage in _storages(output):
            if storage not in self._counted and storage not in others:
                self._alive += storage.nbytes()
                self._counted[storage] = weakref.finalize(storage, self._free, storage.nbytes())
        self.bytes = max(self.bytes, self._alive)
        return output

    def _free(self, size: int) -> None:
        self._alive -= size


def _storages(value: Any) -> list[UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention is composed of simple operations, but on others it is one, that holds no map."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    rows, heads, queries, _ = query.shape
    return query.new_empty(rows, queries, heads, value.shape[-1]).transpose(1, 2)
