"""Imports go one way: a part of the package imports only from parts on the lines above its own, or from itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pag"

ORDER = (
    ("combine", "schedule", "noise", "perturbations", "catalog"),
    ("reuse",),
    ("guidance", "layers", "processors"),
    ("families",),
    ("intercept", "outputs", "rows", "trust"),
    ("arguments", "counters", "degraded", "lent", "operation", "sharing"),
    ("record", "protocol"),
    ("caller", "forward"),
    ("denoiser", "controlnets"),
    ("meta",),
    ("costs",),
    ("peaks",),
    ("_guide",),
    ("_guider",),
    ("pipelines",),
    ("__init__",),  # what users import
    ("generate",),
    ("adm",),
    ("custom_pipeline",),
    ("cli",),
)
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}

# These know tensors at most: no model, no pipeline.
PURE = ("combine", "schedule", "noise", "reuse", "perturbations", "guidance", "layers", "processors", "outputs", "rows")

FILES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[str]:
    """Full names of the imported modules; of `from a import b` both `a` and `a.b`, as `b` may be a module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_parts(file: Path) -> Iterator[str]:
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == "pag":
            first = rest.partition(".")[0]
            yield first if first in RANK else "__init__"


def test_every_part_has_a_place():
    assert {part_of(file) for file in FILES} <= RANK.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_one_way(file: Path):
    part = part_of(file)
    if part == "__init__":  # it names every part's public objects, loaded on first use
        return
    wrong = {other for other in imported_parts(file) if other != part and RANK[other] >= RANK[part]}
    assert not wrong, f"pag.{part} must not import {sorted(wrong)}"


@pytest.mark.parametrize("part", PURE)
def test_pure_parts_know_no_model(part: str):
    names = [name for file in FILES if part_of(file) == part for name in imports(file)]
    assert not [name for name in names if name.partition(".")[0] in ("diffusers", "transformers")]
