"""Signature and docstring of a pipeline class, merged from the base class and the PAG arguments."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_SECTION = re.compile(r"^ *(Examples|Returns):", re.MULTILINE)
_EXAMPLES = re.compile(r"^( *)Examples:.*?(?=^ *Returns:|\Z)", re.MULTILINE | re.DOTALL)


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


INIT_ARGUMENTS = (
    Argument(
        "pag_applied_layers",
        "`str` or `list[str]`",
        str | list[str],
        "mid",
        'Self-attention layers to perturb. Names as in `pag.layers`: `"m0"`, `"mid"`, `"down_blocks.2"`,\n'
        '`"u0.4"`, a full module path, a regular expression of it, or a list of these. Saved with the pipeline.',
    ),
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
        "(`set_pag_applied_layers`). An empty list switches PAG off.",
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
)


def extend(
    function: Callable[..., Any], base: Callable[..., Any], arguments: Sequence[Argument], example: str = ""
) -> Callable[..., Any]:
    """Give a function the signature and the docstring of its base with more arguments."""
    merged: Any = function
    merged.__signature__ = _signature(base, arguments)
    merged.__doc__ = _docstring(base.__doc__ or "", arguments, example)
    return function


def class_docstring(own: str, base: str) -> str:
    """A pipeline class's docstring: its own text, then the constructor's arguments, of the base and of PAG."""
    inherited = inspect.cleandoc(base)
    components = inherited[start:] if (start := inherited.find("Args:")) >= 0 else "Args:"
    entries = "".join(argument.document("    ") for argument in INIT_ARGUMENTS)
    return f"{inspect.cleandoc(own)}\n\n{components.rstrip()}\n{entries}"


def _signature(base: Callable[..., Any], arguments: Sequence[Argument]) -> inspect.Signature:
    signature = inspect.signature(base)
    parameters = list(signature.parameters.values())
    variadic = [parameters.pop()] if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD else []
    return signature.replace(parameters=[*parameters, *(argument.parameter for argument in arguments), *variadic])


def _docstring(base: str, arguments: Sequence[Argument], example: str) -> str:
    indent = " " * (len(match[1]) if (match := re.search(r"^( *)Args:", base, re.MULTILINE)) else 8)
    entries = "".join(argument.document(indent + "    ") for argument in arguments)
    end = match.start() if (match := _SECTION.search(base)) else len(base)
    text = f"{base[:end].rstrip()}\n{entries}\n{base[end:]}"
    if not example:
        return text
    block = f"{indent}Examples:\n\n{indent}```py{example.rstrip()}\n{indent}```\n\n"
    return _EXAMPLES.sub(lambda _: block, text, count=1)
