"""Samples as OpenAI's evaluator reads them: an `.npz` of images and labels that is never in memory as a whole."""

import json
import os
import zipfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pag.generate.errors import mendable

__all__ = ["Images", "Labels", "read_blocks", "read_labels", "read_record", "read_shape", "whole", "write_npz"]

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

IMAGES, LABELS = "arr_0", "arr_1"
PARTIAL = ".partial"
"""The end of the names of files that are being written."""


@contextmanager
def whole(path: Path, folder: Path | None = None) -> Generator[BinaryIO, None, None]:
    """A file to write to, in `folder`, that takes the name `path` once it is complete and on the disk.

    Raises:
        UserError: it cannot be written.
    """
    partial = (folder or path.parent) / f"{path.name}{PARTIAL}"
    try:
        with mendable(f"cannot write {path}", OSError):
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_npz(
    path: Path,
    shape: tuple[int, ...],
    blocks: Iterable[Images],
    labels: Labels | None,
    record: Mapping[str, Any],
    folder: Path | None = None,
) -> None:
    """Write images, which come in blocks, and their labels.

    Args:
        path: the file, which appears when it is complete.
        shape: of all images: their number, height, width, 3.
        blocks: the images, some at a time.
        labels: one for each image, if they have any.
        record: what the images were made with. It is the archive's comment, which readers of arrays do not see.
        folder: where the file is until then, on the same file system.

    Raises:
        UserError: the file cannot be written.
    """
    with whole(path, folder) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with _member(archive, IMAGES) as member:
            _write_header(member, np.dtype(np.uint8), shape)
            for block in blocks:
                member.write(np.ascontiguousarray(block).data)
        if labels is not None:
            with _member(archive, LABELS) as member:
                _write_header(member, labels.dtype, labels.shape)
                member.write(labels.tobytes())
        archive.comment = json.dumps(record).encode()


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    # A ZipInfo of its own has no time in it, so that the same images are the same file.
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _write_header(member: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)


def read_record(path: Path) -> dict[str, Any] | None:
    """What the images in `path` were made with; None if it is no file that `write_npz` wrote. Raises UserError."""
    with mendable(f"cannot read {path}", OSError):
        try:
            with zipfile.ZipFile(path) as archive:
                record: object = json.loads(archive.comment or b"null")
        except (zipfile.BadZipFile, ValueError):
            return None
    return cast(dict[str, Any], record) if isinstance(record, dict) else None


def read_labels(path: Path) -> Labels | None:
    """The labels in `path`, if there are any. Raises UserError."""
    with mendable(f"cannot read {path}", OSError, ValueError, zipfile.BadZipFile), np.load(path) as arrays:
        return arrays[LABELS] if LABELS in arrays.files else None


def read_shape(path: Path) -> tuple[int, ...]:
    """Of all images in `path`. Raises UserError."""
    with _opened(path) as (_, shape):
        return shape


def read_blocks(path: Path, images: int) -> Generator[Images, None, None]:
    """The images in `path`, at most so many at a time. Raises UserError."""
    with _opened(path) as (member, shape):
        size = int(np.prod(shape[1:]))
        for start in range(0, shape[0], images):
            count = min(images, shape[0] - start)
            yield np.frombuffer(_exactly(member, count * size), np.uint8).reshape(count, *shape[1:])


@contextmanager
def _opened(path: Path) -> Generator[tuple[Any, tuple[int, ...]], None, None]:
    """The bytes of the images in `path`, and their shape."""
    with (
        mendable(f"cannot read {path}", OSError, ValueError, KeyError, zipfile.BadZipFile),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{IMAGES}.npy") as opened,
    ):
        member: Any = opened
        np.lib.format.read_magic(member)
        shape, _, _ = np.lib.format.read_array_header_1_0(member)
        yield member, shape


def _exactly(member: Any, size: int) -> bytes:
    data: bytes = member.read(size)
    if len(data) != size:
        raise ValueError("it is cut short")
    return data
