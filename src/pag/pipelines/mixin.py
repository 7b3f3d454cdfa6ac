"""One mixin that turns a diffusers pipeline class into its PAG sister."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Self

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from pag._guide import guide
from pag.families import denoiser_of
from pag.layers import Site
from pag.pipelines._arguments import CALL_ARGUMENTS, layers_argument
from pag.pipelines._document import class_docstring, extend
from pag.pipelines._upstream import UPSTREAM, Defaults
from pag.pipelines._wrap import with_guidance, with_layers
from pag.reuse import Reuse, reuse_of
from pag.schedule import Schedule, check_number

_AS_IT_IS: Any = object()


class PAGMixin:
    """Adds Perturbed-Attention Guidance to the pipeline class that follows it in the bases.

    Constructor and call get the arguments documented in ``_arguments.py``, with one merged signature and docstring.
    Guidance is attached for the time of a call only, so components can be shared with other pipelines freely.
    """

    _pag_example: ClassVar[str] = ""
    _pag_schedule = Schedule(3.0)
    _pag_call_layers: list[str] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if PAGMixin not in cls.__bases__:
            return  # the class above has it all
        plain = cls.__bases__[cls.__bases__.index(PAGMixin) + 1]
        defaults = UPSTREAM.get(cls.__name__, Defaults())
        layers = layers_argument(defaults.layers)
        init: Any = cls.__init__
        call: Any = cls.__call__  # pyright: ignore
        cls.__doc__ = class_docstring(cls.__doc__ or "", plain, [layers])
        cls.__init__ = with_layers(init, defaults)
        extend(cls.__init__, init, [layers], defaults.values)
        guided = with_guidance(call, defaults)
        extend(guided, call, [*CALL_ARGUMENTS, *defaults.more], defaults.values, cls._pag_example)
        cls.__call__ = guided  # pyright: ignore
        for argument in defaults.more:
            setattr(cls, argument.name, argument.default)

    def set_pag_applied_layers(
        self, pag_applied_layers: str | list[str] | None, pag_attn_processors: None = None
    ) -> None:
        """Choose the self-attention layers to perturb in the calls to come.

        Args:
            pag_applied_layers (`str` or `list[str]`): one or more layer names, in any spelling of `pag.layers`.
                `"auto"` or `None` takes those recommended for the denoiser. An empty list switches PAG off.
            pag_attn_processors (`None`): here for diffusers' sake; no attention processor is replaced.

        Raises:
            ValueError: if a layer does not exist; the message lists those that do.
            TypeError: if the names are no strings, or if the denoiser cannot be guided.
        """
        if pag_attn_processors is not None:
            raise ValueError(
                "pag_attn_processors cannot be set, because PAG replaces no attention processor here. "
                "Leave it out, or choose another method with `pag.guide(pipe, perturbation=…)`."
            )
        layers = "auto" if pag_applied_layers is None else pag_applied_layers
        if _has_denoiser(self):
            self._pag_sites(layers)
        self._self.register_to_config(pag_applied_layers=layers)

    @property
    def pag_applied_layers(self) -> list[str]:
        """Names of the layers to perturb; those of the call while one with its own layers is running."""
        if self._pag_call_layers is not None:
            return self._pag_call_layers
        return _as_list(self._self.config.pag_applied_layers)

    @property
    def pag_attn_processors(self) -> dict[str, Any]:
        """Attention processors of the layers to perturb, by full name; a layer without one is left out."""
        paths = [site.path for site in self._pag_sites(self.pag_applied_layers)]
        layers: dict[str, Any] = {path: denoiser_of(self).get_submodule(path) for path in paths}
        return {f"{path}.processor": layer.processor for path, layer in layers.items() if hasattr(layer, "processor")}

    @property
    def pag_scale(self) -> float:
        """The scale s of the current or last call."""
        return self._pag_schedule.scale

    @property
    def pag_adaptive_scale(self) -> float:
        """The fall a of the current or last call, in ``max(0, s − a·(1000 − t))``."""
        return self._pag_schedule.adaptive_scale

    @property
    def do_perturbed_attention_guidance(self) -> bool:
        """Whether the current or last call is guided: its scale is above 0 and a layer is named."""
        return self.pag_scale > 0 and len(self.pag_applied_layers) > 0

    @property
    def do_pag_adaptive_scaling(self) -> bool:
        """Whether the scale of the current or last call falls with the timestep."""
        return self.do_perturbed_attention_guidance and self.pag_adaptive_scale > 0

    @property
    def _self(self) -> Any:
        # What the pipeline class behind this mixin brings along is not known to the type checker.
        return self

    def _pag_sites(self, names: str | list[str]) -> tuple[Site, ...]:
        if callable(names):
            raise TypeError("pag_applied_layers are names. A predicate is for `pag.guide(pipe, layers=…)`.")
        return guide(self, 1.0, layers=names).sites if names or isinstance(names, str) else ()

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of this class with the components of another one, none of them copied.

        Args:
            pipeline (`DiffusionPipeline`): any pipeline with the components that this class needs. The layers to
                perturb are taken over from a PAG pipeline, of this package or of diffusers.
            **kwargs: components or settings to use instead, such as `pag_applied_layers`. `dtype` casts the
                components, for the other pipeline too; without it they stay as they are.
        """
        if (layers := getattr(pipeline, "pag_applied_layers", None)) is not None:
            kwargs.setdefault("pag_applied_layers", layers)
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", _AS_IT_IS)
        parent: Any = super()
        return parent.from_pipe(pipeline, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> Self:  # noqa: D102
        # diffusers' `from_pipe` would cast all components to float32.
        if kwargs.get("dtype") is _AS_IT_IS:
            return self
        parent: Any = super()
        return parent.to(*args, **kwargs)

    to.__doc__ = DiffusionPipeline.to.__doc__

    def to_json_string(self) -> str:
        """The configuration as JSON text, with a class name that diffusers finds: the plain one, if it has no other."""
        parent: Any = super()
        config: dict[str, Any] = json.loads(parent.to_json_string())
        config["_class_name"] = _known_to_diffusers(type(self))
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    @contextmanager
    def _pag_call(
        self,
        pag_scale: float = 3.0,
        pag_adaptive_scale: float = 0.0,
        pag_adaptive_scaling: float | None = None,
        pag_applied_layers: str | list[str] | None = None,
        pag_applied_layers_index: str | list[str] | None = None,
        pag_start: float = 0.0,
        pag_stop: float = 1.0,
        pag_speed: str = "exact",
        pag_reuse: Reuse | None = None,
        pag_low_memory: bool = False,
        **more: Any,
    ) -> Generator[None]:
        adaptive = _one_of(
            pag_adaptive_scale=pag_adaptive_scale or None, pag_adaptive_scaling=pag_adaptive_scaling or None
        )
        layers = _one_of(pag_applied_layers=pag_applied_layers, pag_applied_layers_index=pag_applied_layers_index)
        check_number("pag_scale", pag_scale)
        check_number("pag_start", pag_start, most=1.0)
        check_number("pag_stop", pag_stop, most=1.0)
        schedule = Schedule(pag_scale, pag_start, pag_stop, adaptive or 0.0)
        reuse = reuse_of(None if pag_speed == "exact" else pag_speed, pag_reuse)
        if layers is not None:
            self._pag_sites(layers)
        self._pag_schedule = schedule
        self._pag_call_layers = None if layers is None else _as_list(layers)
        try:
            with self._pag_guide(schedule, reuse, pag_low_memory, more):
                yield
        finally:
            self._pag_call_layers = None

    def _pag_guide(self, schedule: Schedule, reuse: Reuse | None, low_memory: bool, more: Mapping[str, Any]) -> Any:
        on = self.do_perturbed_attention_guidance
        for name, value in more.items():
            if value and not on:
                raise ValueError(f"{name}={value!r} needs PAG: pag_scale above 0, and layers to perturb.")
            setattr(self, name, value)
        if not on:
            return nullcontext()
        return guide(
            self,
            schedule.scale,
            layers=self.pag_applied_layers,
            start=schedule.start,
            stop=schedule.stop,
            adaptive_scale=schedule.adaptive_scale,
            reuse=reuse,
            low_memory=low_memory,
        )


def _has_denoiser(pipe: Any) -> bool:
    # A pipeline may be put together without it, to encode prompts only, say.
    try:
        denoiser_of(pipe)
    except TypeError:
        return False
    return True


def _known_to_diffusers(cls: type) -> str:
    if cls.__name__ in UPSTREAM:
        return cls.__name__
    return next(base.__name__ for base in cls.__mro__ if not issubclass(base, PAGMixin))


def _one_of(**given: Any) -> Any:
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        raise ValueError(f"{' and '.join(values)} are two names of one setting, but both are given. Leave one out.")
    return next(iter(values.values()), None)


def _as_list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
