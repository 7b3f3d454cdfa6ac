"""The arguments that a pipeline class gets on top of its own, in its constructor and in its call."""

import inspect
from dataclasses import dataclass
from typing import Any

from pag.reuse import Reuse


@dataclass(frozen=True)
class Argument:
    """One argument: for people its type and meaning, for the signature its annotation and default."""

    name: str
    type: str
    annotation: Any
    default: Any
    meaning: str

    @property
    def parameter(self) -> inspect.Parameter:
        """The signature's entry. Like all arguments of diffusers' pipelines it has a name; its place is the last."""
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=self.annotation
        )

    def document(self, indent: str) -> str:
        """The docstring's entry, in diffusers' form."""
        default = "" if self.default is None else f", defaults to {self.default!r}"
        lines = "".join(f"{indent}    {line}\n" for line in self.meaning.split("\n"))
        return f"{indent}{self.name} ({self.type}, *optional*{default}):\n{lines}"


def layers_argument(default: str) -> Argument:
    """The constructor's argument.

    Args:
        default: the layers that are perturbed if none are given.
    """
    return Argument(
        "pag_applied_layers",
        "`str` or `list[str]`",
        str | list[str] | None,
        default,
        'Self-attention layers to perturb. Names as in `pag.layers`: `"m0"`, `"mid"`, `"down_blocks.2"`,\n'
        '`"blocks.13"`, a full module path, a regular expression of it, or a list of these. `"auto"` or `None` takes\n'
        "those recommended for the denoiser. Saved with the pipeline.",
    )


CALL_ARGUMENTS = (
    Argument(
        "pag_scale",
        "`float`",
        float,
        3.0,
        "s in `guided + s * (cond - perturbed)`: a finite number, 0 (no guidance, no cost) or more. Without CFG 5.0\n"
        "is usual, with it 3.0.",
    ),
    Argument(
        "pag_adaptive_scale",
        "`float`",
        float,
        0.0,
        "a in `max(0, s - a * (1000 - t))`, which lets the scale fall with the timestep t. Useful values are 0.001\n"
        "to 0.01. 0 keeps the scale constant.",
    ),
    Argument(
        "pag_adaptive_scaling",
        "`float`",
        float | None,
        None,
        "The paper's authors' name of `pag_adaptive_scale`. Only one of the two may be given.",
    ),
    Argument(
        "pag_applied_layers",
        "`str` or `list[str]`",
        str | list[str] | None,
        None,
        "Layers to perturb in this call, named as in `pag.layers`. If not given, those of the pipeline\n"
        '(`set_pag_applied_layers`). `"auto"` takes those recommended for the denoiser. An empty list is no PAG.',
    ),
    Argument(
        "pag_applied_layers_index",
        "`list[str]`",
        list[str] | None,
        None,
        "The paper's authors' name of `pag_applied_layers`, such as `[\"m0\"]`. Only one of the two may be given.",
    ),
    Argument(
        "pag_start",
        "`float`",
        float,
        0.0,
        "Progress at which PAG begins, from 0 (pure noise) to 1 (clean image). Progress is `1 - t / T` for timestep\n"
        "t of T training timesteps, whatever the number of steps. Steps outside cost nothing extra.",
    ),
    Argument(
        "pag_stop",
        "`float`",
        float,
        1.0,
        "Progress at which PAG ends, above `pag_start`.",
    ),
    Argument(
        "pag_speed",
        "`str`",
        str,
        "exact",
        '`"exact"`, or `"fast"`: differences of predictions, of classifier-free guidance too, are computed some seven\n'
        "times a run and held in between, which saves time from about 25 steps on. Approximate.",
    ),
    Argument(
        "pag_reuse",
        "`Reuse`",
        Reuse | None,
        None,
        "How often the differences of predictions are computed, in detail, in place of `pag_speed`.",
    ),
    Argument(
        "pag_low_memory",
        "`bool`",
        bool,
        False,
        "Run the perturbed rows after the others, which leave them what both have in common. The result is the same,\n"
        "with as many operations, for little more memory than without PAG.",
    ),
)

GUIDANCE_RESCALE = Argument(
    "guidance_rescale",
    "`float`",
    float,
    0.0,
    "How much the guided prediction is rescaled towards the standard deviation of the prompt's own one\n"
    "(arXiv 2305.08891), in steps with both CFG and PAG. Above 0 it needs PAG to be on.",
)
"""For a class of diffusers that has this argument although the plain class has not."""
