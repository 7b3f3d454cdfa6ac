"""One mixin that turns a diffusers pipeline class into its PAG sister."""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

from pag._guide import guide, sites
from pag.layers import Site, select
from pag.pipelines._check import check_names, check_prompts
from pag.pipelines._document import CALL_ARGUMENTS, INIT_ARGUMENTS, class_docstring, extend
from pag.schedule import Schedule, check_number


class PAGMixin:
    """Adds Perturbed-Attention Guidance to the pipeline class that follows it in the bases.

    Constructor and call get the arguments documented in ``_document.py``, with one merged signature and docstring.
    Guidance is attached for the time of a call only, so components can be shared with other pipelines freely.
    """

    _pag_example: ClassVar[str] = ""
    _pag_schedule = Schedule(3.0)
    _pag_call_layers: list[str] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls.__base__ or object, PAGMixin) or cls.__base__ is PAGMixin:
            cls.__doc__ = class_docstring(cls.__doc__ or "", cls.__mro__[2].__doc__ or "")
            cls.__init__ = extend(_with_layers(cls.__init__), cls.__init__, INIT_ARGUMENTS)
            call: Any = cls.__call__  # pyright: ignore
            cls.__call__ = extend(_with_guidance(call), call, CALL_ARGUMENTS, cls._pag_example)  # pyright: ignore

    def set_pag_applied_layers(self, pag_applied_layers: str | list[str], pag_attn_processors: None = None) -> None:
        """Choose the self-attention layers to perturb in the calls to come.

        Args:
            pag_applied_layers (`str` or `list[str]`): one or more layer names, in any spelling of `pag.layers`. An
                empty list switches PAG off.
            pag_attn_processors (`None`): here for diffusers' sake; no attention processor is replaced.

        Raises:
            ValueError: if a layer does not exist; the message lists those that do.
            TypeError: if the names are no strings.
        """
        if pag_attn_processors is not None:
            raise ValueError(
                "pag_attn_processors cannot be set, because PAG replaces no attention processor here. "
                "Leave it out, or choose another method with `pag.guide(pipe, perturbation=…)`."
            )
        self._pag_sites(pag_applied_layers)
        self._self.register_to_config(pag_applied_layers=pag_applied_layers)

    @property
    def pag_applied_layers(self) -> list[str]:
        """Names of the layers to perturb; those of the call while one with its own layers is running."""
        if self._pag_call_layers is not None:
            return self._pag_call_layers
        return _as_list(self._self.config.pag_applied_layers)

    @property
    def pag_attn_processors(self) -> dict[str, Any]:
        """Attention processors of the layers to perturb, by full name."""
        names = [f"{site.path}.processor" for site in self._pag_sites(self.pag_applied_layers)]
        return {name: self._self.unet.attn_processors[name] for name in names}

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
        return select(sites(self), names) if names or isinstance(names, str) else ()

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of this class with the components of another one, none of them copied.

        Args:
            pipeline (`DiffusionPipeline`): any pipeline with the components that this class needs. The layers to
                perturb are taken over from a PAG pipeline, of this package or of diffusers.
            **kwargs: components or settings to use instead, such as `pag_applied_layers`.
        """
        if (layers := getattr(pipeline, "pag_applied_layers", None)) is not None:
            kwargs.setdefault("pag_applied_layers", layers)
        parent: Any = super()
        return parent.from_pipe(pipeline, **kwargs)

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
    ) -> Generator[None]:
        adaptive = _one_of(
            pag_adaptive_scale=pag_adaptive_scale or None, pag_adaptive_scaling=pag_adaptive_scaling or None
        )
        layers = _one_of(pag_applied_layers=pag_applied_layers, pag_applied_layers_index=pag_applied_layers_index)
        check_number("pag_scale", pag_scale)
        schedule = Schedule(pag_scale, pag_start, pag_stop, adaptive or 0.0)
        if layers is not None:
            self._pag_sites(layers)
        self._pag_schedule = schedule
        self._pag_call_layers = None if layers is None else _as_list(layers)
        guidance = nullcontext()
        if self.do_perturbed_attention_guidance:
            guidance = guide(
                self,
                pag_scale,
                layers=self.pag_applied_layers,
                start=pag_start,
                stop=pag_stop,
                adaptive_scale=schedule.adaptive_scale,
            )
        try:
            with guidance:
                yield
        finally:
            self._pag_call_layers = None


def _with_layers(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def with_layers(self: Any, *args: Any, pag_applied_layers: str | list[str] = "mid", **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.set_pag_applied_layers(pag_applied_layers)

    return with_layers


def _with_guidance(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def with_guidance(self: Any, *args: Any, **kwargs: Any) -> Any:
        settings = {
            parameter.name: kwargs.pop(parameter.name) for parameter in CALL_ARGUMENTS if parameter.name in kwargs
        }
        check_names(call, kwargs)
        check_prompts(self, call, args, kwargs)
        with self._pag_call(**settings):
            return call(self, *args, **kwargs)

    return with_guidance


def _one_of(**given: Any) -> Any:
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        raise ValueError(f"{' and '.join(values)} are two names of one setting, but both are given. Leave one out.")
    return next(iter(values.values()), None)


def _as_list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
