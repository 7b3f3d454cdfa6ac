"""Files of samples that are complete, and one made of the files of all shards."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pag.adm.npz import Images, read_blocks, read_labels, read_record, read_shape, write_npz
from pag.adm.parts import Parts, differences
from pag.generate.errors import UserError, mendable

__all__ = ["is_complete", "merge", "merge_if_all", "remove_shards", "shard_file"]

AT_A_TIME = 64
"""Images in memory while files are merged: 12 MB at 256x256 pixels."""

OWN = ("shard", "shards")
"""The settings of a shard as such; all others are those of the whole."""


def is_complete(file: Path, record: Mapping[str, Any], *, force: bool = False) -> bool:
    """Whether `file` holds samples of these settings. One of other settings is an error.

    Args:
        file: the file of samples, which may not exist.
        record: the settings.
        force: remove the file, whatever it is.

    Raises:
        UserError: the file has other settings or is of another kind, or it cannot be removed.
    """
    if force:
        with mendable(f"cannot replace {file}", OSError):
            file.unlink(missing_ok=True)
    if not file.exists():
        return False
    found = read_record(file)
    if found is None:
        raise UserError(f"{file} exists, and not by this command: choose another --out, or --force to replace it")
    if other := differences(found, record):
        raise UserError(f"{file} is complete, with other settings: {other}. Choose another --out, or --force")
    return True


def shard_file(out: Path, index: int, count: int) -> Path:
    """Where shard `index` of `count` (from 0) is written."""
    return out.with_name(f"{out.stem}.shard-{index}-of-{count}.npz")


def remove_shards(out: Path, count: int) -> None:
    """Remove the files of shards that are in `out`."""
    with mendable(f"cannot remove the shards of {out}", OSError):
        for index in range(count):
            shard_file(out, index, count).unlink(missing_ok=True)


def merge(out: Path, count: int | None = None) -> int:
    """Make `out` of the files of all shards, which are removed.

    Args:
        out: the file.
        count: how many shards there are; None finds out by their names.

    Returns:
        How many images there are.

    Raises:
        UserError: a shard is missing, shards do not belong together, or a file cannot be read or written.
    """
    count = _count(out) if count is None else count
    files = [shard_file(out, index, count) for index in range(count)]
    if missing := [str(index) for index, file in enumerate(files) if not file.exists()]:
        raise UserError(f"cannot make {out}: of its {count} shards these are not complete: {', '.join(missing)}")
    record = _common(files)
    is_complete(out, record)  # of other settings it would be lost
    parts = Parts(out, (0, 0, 0))
    with parts.opened(record):
        shapes = [read_shape(file) for file in files]
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        labels = [found for file in files if (found := read_labels(file)) is not None]
        write_npz(out, shape, _all(files), np.concatenate(labels) if labels else None, record, parts.folder)
        remove_shards(out, count)
        parts.remove()
    return shape[0]


def merge_if_all(out: Path, count: int) -> bool:
    """`merge`, if all shards are complete, of the same settings, and no other process is merging them."""
    files = [shard_file(out, index, count) for index in range(count)]
    try:
        records = [read_record(file) for file in files]
        if len({str(sorted(_whole(record or {}).items())) for record in records}) > 1:
            return False
        merge(out, count)
    except UserError:
        if all(file.exists() for file in files) and not Parts(out, (0, 0, 0)).busy():
            raise
        return False
    return True


def _count(out: Path) -> int:
    names = [path.name for path in out.parent.glob("*.npz")]
    pattern = re.compile(rf"{re.escape(out.stem)}\.shard-\d+-of-(\d+)\.npz")
    counts = sorted({int(match[1]) for name in names if (match := pattern.fullmatch(name))})
    if not counts:
        raise UserError(f"there are no shards of {out}: they are named like {shard_file(out, 0, 4).name}")
    if len(counts) > 1:
        raise UserError(f"{out} has shards of runs with {' and '.join(map(str, counts))} shards: remove the others")
    return counts[0]


def _common(files: Sequence[Path]) -> dict[str, Any]:
    """The settings of all files. Raises UserError if they differ."""
    records = [_whole(read_record(file) or {}) for file in files]
    for file, record in zip(files, records, strict=True):
        if other := differences(records[0], record):
            raise UserError(f"{files[0]} and {file} do not belong together: {other}")
    return records[0]


def _whole(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in OWN}


def _all(files: Sequence[Path]) -> Iterator[Images]:
    for file in files:
        yield from read_blocks(file, AT_A_TIME)
