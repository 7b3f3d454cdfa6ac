"""Which arguments of the modules inside a network carry rows, and where."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from pag.families import Family
from pag.intercept import input_names
from pag.rows import Rows, Stage


@final
class Arguments:
    """Which arguments of a module's call are tables that carry no rows, by name and by position, and which stacks."""

    def __init__(self, module: nn.Module, family: Family) -> None:
        names = input_names(module)
        self._family = family
        self._tables = _with_positions(names, [name for name in names if not family.carries_rows(name)])
        self._stacks = _with_positions(names, family.row_stacks)
        self._second = _with_positions(names, [name for name in names if name in family.rows_second])

    def take(self, rows: Rows, stage: Stage, name: str | int, value: Any) -> Any:
        """The distinct rows of an argument."""
        # What an attention module only passes on to its processor is not among its names.
        if name in self._tables or (isinstance(name, str) and not self._family.carries_rows(name)):
            return value
        if name in self._second:
            return _turned(rows.take(_turned(value), stage))
        return rows.take_stacked(value, stage) if name in self._stacks else rows.take(value, stage)

    def carry(self, rows: Rows, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the arguments carry the grown rows."""
        return rows.carried_by(_turned(args) if self._second else (args, kwargs))

    def of_prompt(self, rows: Rows, output: Any) -> Any:
        """A copy of the prompt's rows of what the module returned."""
        return _turned(rows.of_prompt(_turned(output))) if self._second else rows.of_prompt(output)

    def spread(self, rows: Rows, stage: Stage, output: Any) -> Any:
        """All rows of what the module returned for the distinct ones."""
        return _turned(rows.spread(_turned(output), stage)) if self._second else rows.spread(output, stage)


def _turned(value: Any) -> Any:
    """The first two dimensions exchanged, of the tensors of a nest that have more."""
    if isinstance(value, list | tuple):
        return type(value)([_turned(item) for item in value])  # pyright: ignore
    return value.transpose(0, 1) if isinstance(value, Tensor) and value.ndim > 2 else value


def _with_positions(names: Sequence[str], chosen: Sequence[str]) -> frozenset[str | int]:
    return frozenset([*chosen, *(index for index, name in enumerate(names) if name in chosen)])
