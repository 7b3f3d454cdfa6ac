"""The one file that reaches into torch and diffusers: stepping inside a module's call and an attention operation."""

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models import attention_processor
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, attention_backend  # pyright: ignore
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn
from torch.nn.attention import flex_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pag.processors import REPLACEMENTS, SPARSE, block_sparse

DispatchMode = TorchDispatchMode
"""Sees every operation inside its context."""

Call = Callable[..., Any]

_NATIVE = attention_processor.AttnProcessor2_0()
_NATIVE_ADDED_KEYS = attention_processor.AttnAddedKVProcessor2_0()

# These compute attention without F.scaled_dot_product_attention, to the same result up to rounding.
_EQUAL_TO_NATIVE: dict[type, Call] = {
    attention_processor.AttnProcessor: _NATIVE,
    attention_processor.SlicedAttnProcessor: _NATIVE,
    attention_processor.XFormersAttnProcessor: _NATIVE,
    attention_processor.AttnAddedKVProcessor: _NATIVE_ADDED_KEYS,
    attention_processor.SlicedAttnAddedKVProcessor: _NATIVE_ADDED_KEYS,
    attention_processor.XFormersAttnAddedKVProcessor: _NATIVE_ADDED_KEYS,
}


class Override:
    """Takes over the call of one module: ``function(original, *args, **kwargs)``.

    It stays in place for as long as guidance is attached, so that a compiled graph sees one stable call; what it
    does is switched by state. A copy or a pickle of the module holds the plain call. If somebody else wraps the
    call meanwhile (an offload hook, say), :meth:`remove` leaves theirs alone and steps aside for good.

    Args:
        module: the module.
        function: what answers for it.
        outermost: also be ahead of whoever assigns ``module.forward`` later: diffusers' model offloading takes its
            hooks off and puts them on again after every run, and what was wrapped over the old ones is lost.
        alike: stand in the module as a method, not as an object: torch.compile takes the methods of all modules of a
            kind for the same, and traces blocks of one kind once. A copy of the module would hold it too.
    """

    def __init__(self, module: nn.Module, function: Call, *, outermost: bool = False, alike: bool = False) -> None:
        self.module = module
        self._standing = self.__call__ if alike else self
        self.spent = False
        """Whether it lies for good beneath somebody else's wrapper, where it must not be installed once more."""
        self._answer = function
        self._outermost = outermost
        self._slot = ""
        self._had_own = False
        self._original: Call | None = None
        self._function: Call | None = None

    def install(self) -> None:
        """Take the call over, until :meth:`remove`."""
        # A module compiled in place answers through `_compiled_call_impl`; taking over its forward instead
        # would pull the guidance logic into the graph.
        compiled = vars(self.module).get("_compiled_call_impl") is not None
        self._slot = "_compiled_call_impl" if compiled or self._outermost else "forward"
        self._had_own = self._slot in vars(self.module)
        original: Call = getattr(self.module, self._slot) or self.module._call_impl  # pyright: ignore[reportPrivateUsage]
        # The same object as last time, so that what torch.compile traced then is good again.
        if original != self._original:
            self._original = original
            functools.update_wrapper(self, original, updated=())
        self._function = self._answer
        vars(self.module)[self._slot] = self._standing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer for the module."""
        original = self._original
        if original is None:
            raise RuntimeError("This override was never installed.")
        if self._function is None:
            return original(*args, **kwargs)
        return self._function(original, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Call:
        return cast(Call, copy.deepcopy(self._original, memo))

    def __reduce__(self) -> Any:
        return getattr, (self.module, self._slot)

    def remove(self) -> None:
        """Give the call back."""
        if self._function is None:
            return
        self._function = None
        if vars(self.module).get(self._slot) is not self._standing:
            self.spent = True
            return
        if self._had_own:
            vars(self.module)[self._slot] = self._original
        else:
            del vars(self.module)[self._slot]


def install(overrides: Sequence[Override]) -> None:
    """Take over the calls of several modules: all of them or, on an error, none."""
    try:
        for override in overrides:
            override.install()
    except BaseException:
        remove(overrides)
        raise


def remove(overrides: Sequence[Override]) -> None:
    """Give the calls of several modules back, the last one first."""
    for override in reversed(overrides):
        override.remove()


class Takeover:
    """Takes over the call of a whole network: ``function(original, *args, **kwargs)``, for one thread at a time.

    Calls of the network that the function makes go through to it.

    Args:
        network: the network, compiled or not.
        function: what answers for it.
    """

    def __init__(self, network: nn.Module, function: Call) -> None:
        self._function = function
        # Twice: the outer one survives new offload hooks, the inner one `unet.compile()`. One of them answers.
        self._overrides = [Override(network, self._answer), Override(network, self._answer, outermost=True)]
        self._inside = False
        self._alone = RLock()  # what goes on in the network's modules is for one thread at a time

    def install(self) -> None:
        """Take the call over, until :meth:`remove`."""
        install(self._overrides)

    def remove(self) -> None:
        """Give the call back."""
        remove(self._overrides)

    # Where the whole call is traced, as after `torch.compile(pipe.unet)` under attached guidance, the decisions of
    # the function stay in Python and the network is compiled.
    @torch.compiler.disable(recursive=False)  # pyright: ignore[reportUntypedFunctionDecorator]
    def _answer(self, original: Call, *args: Any, **kwargs: Any) -> Any:
        with self._alone:
            if self._inside:
                return original(*args, **kwargs)
            self._inside = True
            try:
                return self._function(original, *args, **kwargs)
            finally:
                self._inside = False


class AttentionOp(TorchFunctionMode):
    """Inside this context, ``attend(op, q, k, v, **options)`` answers for the native attention operation ``op``."""

    def __init__(self, attend: Call) -> None:
        super().__init__()
        self._attend = attend

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attend(func, *args, **(kwargs or {}))
        # torch.compile cannot trace Tensor.unflatten inside of a mode, for it calls itself through `super()`.
        return (_unflatten if func is Tensor.unflatten else func)(*args, **(kwargs or {}))


def _unflatten(tensor: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    dim %= tensor.ndim
    return tensor.reshape(*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :])


def native_call(attention: Any, original: Call, attend: Call) -> Call:
    """The call of an attention module, made to go through the native attention operation where it would not.

    Args:
        attention: the module.
        original: its call.
        attend: what answers for operations that are not native.
    """
    processor = getattr(attention, "processor", None)
    if type(processor).__name__ in SPARSE:
        return functools.partial(_sparse_where_asked, attend, attention, _native(attention, processor, original))
    if replacement := REPLACEMENTS.get(type(processor).__name__):
        return functools.partial(replacement, attend, attention)
    return _native(attention, processor, original)


def _native(attention: Any, processor: Any, original: Call) -> Call:
    for cls, native in _EQUAL_TO_NATIVE.items():
        if isinstance(processor, cls):
            return functools.partial(native, attention)
    if _backend_of(processor) not in _NATIVE_BACKENDS:
        return functools.partial(_with_native_backend, processor, original)
    return original


def _sparse_where_asked(attend: Call, attention: Any, dense: Call, *args: Any, **kwargs: Any) -> Any:
    given = dict(zip(input_names(attention), args, strict=False)) | kwargs
    if (sparse := given.get("sparse_params")) is None:
        return dense(*args, **kwargs)
    return block_sparse(attend, attention, given["hidden_states"], given["rotary_emb"], sparse)


def processor_name(attention: Any) -> str:
    """Class name of an attention module's processor."""
    return type(getattr(attention, "processor", attention)).__name__


_NATIVE_BACKENDS = (None, AttentionBackendName.NATIVE, AttentionBackendName._NATIVE_MATH)  # pyright: ignore


def _backend_of(processor: Any) -> Any:
    """The attention backend that a processor asks for, by itself or by default."""
    own = getattr(processor, "_attention_backend", None)
    return own if own is not None else _AttentionBackendRegistry._active_backend  # pyright: ignore


def _with_native_backend(processor: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
    own = vars(processor)
    before = {name: own[name] for name in ("_attention_backend",) if name in own}
    processor._attention_backend = AttentionBackendName.NATIVE
    try:
        with attention_backend(AttentionBackendName.NATIVE):  # for processors that have no say in it
            return call(*args, **kwargs)
    finally:
        del processor._attention_backend
        own.update(before)


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that ``torch.compile`` wrapped, or the model itself."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` wrapped a module, or compiled it in place."""
    return uncompiled(module) is not module or vars(module).get("_compiled_call_impl") is not None


def cache_of(model: nn.Module) -> str | None:
    """Name of the caching technique of diffusers that is on, which leaves layers out in some steps."""
    config = getattr(model, "_cache_config", None)
    return None if config is None else type(config).__name__


def input_names(module: nn.Module) -> tuple[str, ...]:
    """Names of the arguments of a module's call, in order, as its class says."""
    names = inspect.signature(type(module).forward).parameters.values()
    return tuple(name.name for name in names if name.kind is not inspect.Parameter.VAR_KEYWORD)[1:]


def running_pipeline(default: Any) -> tuple[Any, Mapping[str, Any]]:
    """The pipeline whose call is under way, and the local variables of that call.

    Pipelines keep much of what guidance must know in local variables only: whether they use classifier-free guidance,
    at which scale, in which step they are. And a combined pipeline lets another one call the denoiser.

    Args:
        default: what to return, with no variables, if no pipeline is running.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        samples = "timesteps" in frame.f_locals or frame.f_code.co_name == "__call__"
        if samples and isinstance(pipe := frame.f_locals.get("self"), DiffusionPipeline):
            return pipe, frame.f_locals
        frame = frame.f_back
    return default, {}


def is_part(part: Tensor, whole: Any) -> bool:
    """Whether a tensor is an entry of another one in memory, or some that follow one another."""
    if not isinstance(whole, Tensor) or part.dtype != whole.dtype or not whole.is_contiguous() or 0 in part.stride():
        return False
    same = part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    return same and 0 <= part.storage_offset() - whole.storage_offset() < len(whole)


def held_by_callers(objects: Sequence[Any]) -> Any:
    """The one of the objects that is in a local variable of the innermost caller that has any, or None."""
    frame = sys._getframe(1).f_back  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if any(value is one for one in objects):
                return value
        frame = frame.f_back
    return None


def meta_copy(model: Any) -> nn.Module:
    """A model of the same configuration without weights, on the meta device."""
    with torch.device("meta"):
        copied: nn.Module = type(model).from_config(model.config)
    # What the old constructor `torch.Tensor([…])` made does not know of the context, and counting operations trips over
    # views of parameters that ask for gradients.
    return copied.to("meta").eval().requires_grad_(False)


class _AllEntries(TorchFunctionMode):
    """Inside this context every entry of a tensor without values is one that is not zero."""

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nonzero and args[0].is_meta:
            shape, device = args[0].shape, args[0].device
            return torch.empty(shape.numel(), len(shape), dtype=torch.long, device=device)
        return func(*args, **(kwargs or {}))


@contextmanager
def running_on_meta() -> Generator[None]:
    """Inside this context models run on the meta device that ask which tokens a mask leaves (all), or for autocast.

    And those whose attention is `flex_attention`, which is taken for the native operation there.
    """
    plain: Any = (torch.autocast, flex_attention.flex_attention)

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == "meta" else plain[0](device_type, *args, **kwargs)

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        native = F.scaled_dot_product_attention
        return native(query, key, value) if query.is_meta else plain[1](query, key, value, *args, **kwargs)

    torch.autocast, flex_attention.flex_attention = autocast, attention  # pyright: ignore
    try:
        with _AllEntries():
            yield
    finally:
        torch.autocast, flex_attention.flex_attention = plain


def makes_new_tensors(operation: Any) -> bool:
    """Whether what an operation of a :class:`DispatchMode` returns is in no part what it was given."""
    schema = operation._schema
    return not schema.is_mutable and all(one.alias_info is None for one in schema.returns)
