"""The shape of a family entry: facts, not logic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pag.layers import Site


@dataclass(frozen=True)
class Convention:
    """How a pipeline lays out the rows of classifier-free guidance, and what it does with the result.

    Args:
        groups: the row groups of one call while CFG is on, in order; ``"cond"`` is the prompt's.
        formula: ``"classifier_free"`` if the pipeline computes ``u + g·(c − u)`` from its property
            ``guidance_scale`` (and rescales by its property ``guidance_rescale``); ``None`` if it computes
            something else, or from values that cannot be read. Any combination whose weights sum to 1 is
            served either way.
        log_sigma: whether the pipeline passes the logarithm of the noise level where others pass the timestep.
    """

    groups: tuple[str, ...] = ("uncond", "cond")
    formula: str | None = "classifier_free"
    log_sigma: bool = False


@dataclass(frozen=True)
class Family:
    """What must be known of a denoiser class to guide it.

    Args:
        models: class names of the denoisers.
        sites: lists the self-attention layers of a model, in the order in which they run.
        row_arguments: arguments of ``forward`` that carry one entry per row, tensors or nests of tensors.
            A dotted name is an entry of a dictionary argument. All other arguments are left alone: a table
            without a batch dimension must never be indexed because its size happens to fit.
        trunk: children of the model through which rows flow, in the order in which they run.
        trunk_arguments: the row arguments that reach the trunk ahead of ``text_entry``.
        text_entry: path of the first module at which the rows of the prompt and of the negative prompt
            begin to differ, or ``None`` if they differ from the start.
        example: arguments of ``forward`` for a number of rows, on the model's device; sizes as in the
            published checkpoints.
        layers: the recommended layers.
        scale: the recommended scale.
        source: where the recommendation comes from.
        conventions: by pipeline class name, where it is not the default.
    """

    models: tuple[str, ...]
    sites: Callable[[nn.Module], tuple[Site, ...]]
    row_arguments: tuple[str, ...]
    trunk: tuple[str, ...]
    trunk_arguments: tuple[str, ...]
    text_entry: Callable[[nn.Module], str | None]
    example: Callable[[Any, int], dict[str, Any]]
    layers: tuple[str, ...]
    scale: float
    source: str
    conventions: Mapping[str, Convention] = field(default_factory=dict[str, Convention])

    def convention(self, pipe: object) -> Convention:
        """The row convention of a pipeline."""
        for base in type(pipe).__mro__:
            if base.__name__ in self.conventions:
                return self.conventions[base.__name__]
        return Convention()
