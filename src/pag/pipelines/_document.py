"""Signature and docstring of a pipeline class, merged from the base class and the PAG arguments."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pag.pipelines._arguments import Argument

_SECTION = re.compile(r"^ *(Examples?|Returns): *$", re.MULTILINE)
_EXAMPLES = re.compile(r"^ *Examples?: *\n.*?(?=^ *Returns:|\Z)", re.MULTILINE | re.DOTALL)
_ARGUMENTS = re.compile(r"^( *)(?:Args|Arguments|Parameters): *$", re.MULTILINE)
_EMPTY = inspect.Parameter.empty


def extend(
    function: Callable[..., Any],
    base: Callable[..., Any],
    arguments: Sequence[Argument],
    values: Mapping[str, Any],
    example: str = "",
) -> None:
    """Give a function the signature and the docstring of its base with more arguments.

    Args:
        function: what gets them.
        base: what it calls.
        arguments: the arguments on top.
        values: defaults that are not those of the base.
        example: an example in place of the base's.
    """
    merged: Any = function
    merged.__signature__ = _signature(base, arguments, values)
    merged.__doc__ = _docstring(base.__doc__ or "", arguments, example)


def _signature(base: Callable[..., Any], arguments: Sequence[Argument], values: Mapping[str, Any]) -> inspect.Signature:
    signature = inspect.signature(base)
    parameters = [
        parameter.replace(default=values.get(parameter.name, parameter.default))
        for parameter in signature.parameters.values()
    ]
    variadic = [parameters.pop()] if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD else []
    return signature.replace(parameters=[*parameters, *(argument.parameter for argument in arguments), *variadic])


def _docstring(base: str, arguments: Sequence[Argument], example: str) -> str:
    indent = match[1] if (match := _ARGUMENTS.search(base)) else " " * 8
    entries = "".join(argument.document(indent + "    ") for argument in arguments)
    end = match.start() if (match := _SECTION.search(base)) else len(base)
    head = base[:end].rstrip() + ("\n" if _ARGUMENTS.search(base) else f"\n\n{indent}Args:\n")
    rest = _EXAMPLES.sub("", base[end:]) if example else base[end:]
    block = f"{indent}Examples:\n\n{indent}```py\n{_indented(example, indent)}\n{indent}```\n\n" if example else ""
    return f"{head}{entries}\n{block}{rest}"


def class_docstring(own: str, base: type, arguments: Sequence[Argument]) -> str:
    """A pipeline class's docstring: its own text, then the constructor's arguments, of the base and of PAG."""
    inherited = inspect.cleandoc(vars(base).get("__doc__") or "")
    match = _ARGUMENTS.search(inherited)
    components = inherited[match.start() :] if match else "Args:\n" + _components(base)
    entries = "".join(argument.document("    ") for argument in arguments)
    return f"{inspect.cleandoc(own)}\n\n{components.rstrip()}\n{entries}"


def _components(base: type) -> str:
    parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
    return "".join(
        f"    {parameter.name} (`{_annotation(parameter)}`{_default(parameter)}):\n        As in `{base.__name__}`.\n"
        for parameter in parameters
    )


def _annotation(parameter: inspect.Parameter) -> str:
    given = "Any" if parameter.annotation is _EMPTY else parameter.annotation
    text = given if isinstance(given, str) else inspect.formatannotation(given)
    return re.sub(r"(?:\w+\.)+(?=\w)", "", text)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is _EMPTY:
        return ""
    return ", *optional*" if parameter.default is None else f", *optional*, defaults to {parameter.default!r}"


def example_of(base: type, name: str, home: str) -> str:
    """The example of a pipeline class's call, told with another class in its place.

    Args:
        base: the class whose example it is.
        name: of the class in its place.
        home: the module to import that one from.
    """
    call: Any = base.__call__
    block = re.search(r"```py(?:thon)?\n(.*?)\n *```", _section(call.__doc__ or ""), re.DOTALL)
    text = _replaced(inspect.cleandoc("\n" + block[1]), base.__name__, name, home) if block else ""
    return text or f">>> from {home} import {name}\n\n>>> pipe = {name}.from_pretrained(model)"


def _section(docstring: str) -> str:
    match = _EXAMPLES.search(docstring)
    return match[0] if match else ""


def _replaced(example: str, base: str, name: str, home: str) -> str:
    if f"diffusers.{base}" in example:
        example = example.replace(f"diffusers.{base}", f"{home}.{name}")
        return re.sub(
            r"^([> ]*)import diffusers$", rf"\1import diffusers\n\1import {home}", example, flags=re.MULTILINE
        )
    # Without its own name, an example loads the class through one of these.
    for old in (base, r"AutoPipelineFor\w+", "DiffusionPipeline"):
        statement = re.compile(
            rf"^(?P<prompt>[> ]*)from (?P<home>diffusers[\w.]*) import "
            rf"(?P<names>\([^)]*\b{old}\b[^)]*\)|[^\n(]*\b{old}\b[^\n]*)$",
            re.MULTILINE,
        )
        if statement.search(example):
            example = statement.sub(lambda match, old=old: _import(match, old, name, home), example)
            return re.sub(rf"\b{old}\b", name, example)
    return ""


def _import(statement: re.Match[str], old: str, name: str, home: str) -> str:
    names = re.findall(r"\w+(?: as \w+)?", statement["names"])
    others = ", ".join(other for other in names if not re.fullmatch(old, other))
    plain = f"{statement['prompt']}from {statement['home']} import {others}\n" if others else ""
    return f"{plain}{statement['prompt']}from {home} import {name}"


def _indented(text: str, indent: str) -> str:
    return "\n".join(f"{indent}{line}".rstrip() for line in inspect.cleandoc(text).splitlines())
