"""Documents a pipeline class as it is at run time, with what it inherits from diffusers.

Its call's signature and docstring are merged with diffusers' when the class is made, and most of its methods are
diffusers' own: neither is in this package's source code for the documentation tool to read.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import griffe

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it reports what it goes without

PACKAGE = "pag.pipelines."
FIRST = ("__init__", "__call__")


class RuntimeMembers(griffe.Extension):
    """Replaces the members of every pipeline class, and makes all docstrings Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each object that it has read."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called by griffe for each class that it has read."""
        if not cls.path.startswith(PACKAGE) or not cls.name.endswith("Pipeline"):
            return
        runtime = getattr(import_module(cls.module.path), cls.name)
        for name in ordered_names(runtime):
            member = inspect.getattr_static(runtime, name)
            if isinstance(member, property):
                cls.set_member(name, attribute(name, member))
            elif callable(function := getattr(runtime, name)):
                cls.set_member(name, method(name, function, member))
        cls.docstring = docstring(runtime.__doc__, cls)


def ordered_names(cls: type) -> Iterator[str]:
    """Public names: the constructor and the call, then each base's own in turn, without those of plain objects."""
    seen = set(FIRST)
    yield from FIRST
    for base in cls.__mro__[:-1]:
        for name in vars(base):
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name


def attribute(name: str, member: property) -> griffe.Attribute:
    """A property."""
    signature = inspect.signature(member.fget) if member.fget else None
    found = griffe.Attribute(
        name, value=None, annotation=annotation(signature.return_annotation if signature else None)
    )
    found.labels |= {"property"}
    found.docstring = docstring(member.__doc__, found)
    return found


def method(name: str, function: Callable[..., Any], member: object) -> griffe.Function:
    """A method, bound if it is a class method."""
    signature = inspect.signature(function)
    parameters = [parameter(item) for item in signature.parameters.values() if item.name != "self"]
    found = griffe.Function(
        name, parameters=griffe.Parameters(*parameters), returns=annotation(signature.return_annotation)
    )
    found.labels |= {"classmethod"} if isinstance(member, classmethod) else set()
    if name != "__init__":  # the class's docstring has its arguments
        found.docstring = docstring(function.__doc__, found)
    return found


def parameter(item: inspect.Parameter) -> griffe.Parameter:
    """One parameter of a signature."""
    default = None if item.default is inspect.Parameter.empty else repr(item.default)
    return griffe.Parameter(
        item.name,
        annotation=annotation(item.annotation),
        kind=griffe.ParameterKind(item.kind.description),
        default=default,
    )


def annotation(given: Any) -> str | None:
    """An annotation as text, without the modules that the names come from."""
    if given is inspect.Parameter.empty or given is None:
        return None
    text = given if isinstance(given, str) else inspect.formatannotation(given)
    return re.sub(r"(?:\w+\.)+(?=\w)", "", text)


def docstring(text: str | None, parent: griffe.Object) -> griffe.Docstring | None:
    """A docstring without the marks of diffusers' own documentation tool."""
    if not text:
        return None
    text = re.sub(r"\[(`[^`\]]+`)\](?!\()", r"\1", inspect.cleandoc(text)).replace("`~", "`")
    text = re.sub(r"</?(?:Tip|hfoptions?)[^>]*>", "", text)
    text = re.sub(r"^( +\w+) \((.+)\):", lambda match: f"{match[1]} ({types(match[2])}):", text, flags=re.MULTILINE)
    # Arguments that diffusers documents without naming them in the signature are options for `**kwargs`.
    found = griffe.Docstring(markdown(text), parent=parent, parser="google", parser_options={"warnings": False})
    for section in found.parsed:
        if isinstance(section, griffe.DocstringSectionParameters) and isinstance(parent, griffe.Function):
            for item in section.value:
                item.default = item.default if item.name in parent.parameters else "optional"
    return found


def markdown(text: str) -> str:
    """A docstring without reStructuredText's roles, and with the heading that griffe takes for examples."""
    text = re.sub(r":(?:mod|class|meth|func|attr):`~?([\w.]+)`", r"`\1`", text)
    return re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)


def types(text: str) -> str:
    """The types in diffusers' way to document an argument: "`str` or `int`, *optional*" is "str | int"."""
    text = re.sub(r",? *\*optional\*.*", "", text).replace("`", "")
    return " | ".join(re.split(r" or |, (?![^\[]*\])", text))
