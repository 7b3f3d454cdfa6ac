"""Networks on the meta device, where operations and bytes are counted without weights or time."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from pag.denoiser import GuidedDenoiser
from pag.families import Family, denoiser_of, family_of
from pag.guidance import Guidance
from pag.intercept import Call, meta_copy, running_on_meta, uncompiled
from pag.layers import Site
from pag.noise import Level
from pag.rows import Rows


@final
class EqualRows:
    """A caller that passes equal rows, with or without classifier-free guidance."""

    guidance_scale = None
    guidance_rescale = 0.0

    def __init__(self, cfg: bool) -> None:
        self.groups = ("uncond", "cond") if cfg else ("cond",)

    def rows(self, sample: Any, role: str | None) -> Rows:
        """The row groups of this call."""
        return Rows(len(sample) // len(self.groups), self.groups)

    def starts_equal(self, rows: Rows, inputs: list[Any]) -> bool:
        """All groups get the same inputs, but for the text."""
        return True

    def progress(self, timestep: Tensor | float | int) -> float:
        """Always at pure noise."""
        return 0.0

    def level(self, timestep: Tensor | float | int) -> Level:
        """Half noise."""
        return Level(0.5, -0.5)

    def shares(self, deltas: list[Tensor]) -> list[Tensor]:
        """All of ``δ``."""
        return deltas

    def owed(self) -> list[Tensor] | None:
        """No call is without the prompt's rows."""
        return None

    def deltas(self, key: Hashable = None) -> None:
        """Nothing is reused."""

    def leaves_out(self, rows: Rows, shapes: Hashable) -> bool:
        """So that every row is read."""
        return False


def on_meta(pipe_or_model: Any) -> tuple[nn.Module, Family]:
    """A network without weights, and its family."""
    model = uncompiled(pipe_or_model if isinstance(pipe_or_model, nn.Module) else denoiser_of(pipe_or_model))
    family = family_of(model)
    _maker(model, family)
    return meta_copy(model), family


def guided_on_meta(
    model: nn.Module, family: Family, sites: Sequence[Site], cfg: bool, guidance: Guidance, counter: Any
) -> None:
    """Run a guided call for one image inside what counts."""
    caller = EqualRows(cfg)
    denoiser = GuidedDenoiser(model, family, sites, guidance, caller)
    denoiser.attach()
    try:
        run_on_meta(model, example_of(model, family, len(caller.groups)), counter)
    finally:
        denoiser.detach()


def example_of(model: nn.Module, family: Family, rows: int) -> dict[str, Any]:
    """Arguments of a call at the size that the model was trained for."""
    return _maker(model, family)(model, rows)


def _maker(model: nn.Module, family: Family) -> Callable[[Any, int], dict[str, Any]]:
    if family.example is None:
        raise TypeError(
            f"What {type(model).__name__} costs is not known without an example of its arguments: register its family "
            "with an `example`."
        )
    return family.example


def run_on_meta(model: nn.Module, arguments: dict[str, Any], counter: Any) -> None:
    """Call a network without weights inside what counts."""
    try:
        with torch.no_grad(), counter, running_on_meta():
            model(**arguments)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"What {type(model).__name__} costs cannot be counted without its weights: on the meta device, where "
            f"tensors have no values, it fails with {type(error).__name__}: {error}"
        ) from error


def fused_attention(op: Call, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """On the meta device attention is composed of simple operations, but on others it is one, that holds no map."""
    rows, heads, queries, _ = query.shape
    return query.new_empty(rows, queries, heads, value.shape[-1]).transpose(1, 2)
