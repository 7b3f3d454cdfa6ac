"""The finished part of a file of samples, in a folder beside it: a kill loses nothing but the batch in work."""

import json
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, final

import numpy as np

from pag.adm.npz import PARTIAL, Images, whole
from pag.generate.errors import UserError, mendable

__all__ = ["Parts", "differences"]

RECORD, LOCK, PART = "settings.json", "lock", ".rgb"


@final
class Parts:
    """The finished batches of the file `out`, each a file that is named by the images in it.

    Args:
        out: the file that they will make.
        shape: of an image: height, width, 3.
    """

    def __init__(self, out: Path, shape: tuple[int, int, int]) -> None:
        self.folder = out.with_name(f"{out.name}.parts")
        self._out = out
        self._shape = shape

    @contextmanager
    def opened(self, record: Mapping[str, Any], *, force: bool = False) -> Generator[None, None, None]:
        """Keep other processes out, and go on with what was done; in the end an empty folder is removed.

        Args:
            record: the settings, which must be those of the parts that exist.
            force: drop the parts that exist.

        Raises:
            UserError: another process is at work, or the settings differ.
        """
        with mendable(f"cannot write {self.folder}", OSError):
            self.folder.mkdir(exist_ok=True)
        with self._locked():
            try:
                if force:
                    self._drop(*self._files())
                self._drop(*self.folder.glob(f"*{PARTIAL}"))
                self._settle(record)
                yield
            finally:
                if not self._files():
                    self.remove()

    def _settle(self, record: Mapping[str, Any]) -> None:
        path = self.folder / RECORD
        if self._files():
            with mendable(f"cannot read {path}", OSError, ValueError):
                before = dict[str, Any](json.loads(path.read_text()))
            if other := differences(before, record):
                raise UserError(
                    f"{self._out} was begun with other settings: {other}. Give the same settings to go on, "
                    "--force to start again, or another --out"
                )
        with whole(path) as file:
            file.write(json.dumps(record).encode())

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """The lock ends with the process, whatever ends it. Without effect where the system has none of that kind."""
        with mendable(f"cannot write {self.folder}", OSError):
            file = (self.folder / LOCK).open("wb")
        with file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is making {self._out}") from None
            except (ImportError, OSError):
                pass
            yield

    def busy(self) -> bool:
        """Whether another process is at work."""
        if not self.folder.exists():
            return False
        try:
            with self._locked():
                return False
        except UserError:
            return True

    def done(self) -> list[tuple[int, int]]:
        """First image, and the one after the last, of each part, in order; a part of wrong size is none."""
        spans: list[tuple[int, int]] = []
        for path in self._files():
            start, stop = (int(number) for number in path.stem.split("-"))
            whole_size = (stop - start) * int(np.prod(self._shape))
            if path.stat().st_size == whole_size and start >= max((end for _, end in spans), default=0):
                spans.append((start, stop))
        return spans

    def missing(self, images: range, batch: int) -> Iterator[range]:
        """What has to be done yet of `images`, in ranges of at most `batch`."""
        at = images.start
        for start, stop in (*self.done(), (images.stop, images.stop)):
            yield from (range(first, min(first + batch, start)) for first in range(at, start, batch))
            at = stop

    def add(self, start: int, images: Images) -> None:
        """Put images on the disk. Raises UserError."""
        with whole(self._path(start, start + len(images))) as file:
            file.write(np.ascontiguousarray(images).data)

    def blocks(self) -> Iterator[Images]:
        """All images in order."""
        for start, stop in self.done():
            with mendable(f"cannot read {self._path(start, stop)}", OSError):
                yield np.fromfile(self._path(start, stop), np.uint8).reshape(stop - start, *self._shape)

    def remove(self) -> None:
        """Drop all of it, as the file is complete, or nothing is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, start: int, stop: int) -> Path:
        return self.folder / f"{start:09}-{stop:09}{PART}"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{PART}"))

    def _drop(self, *files: Path) -> None:
        with mendable(f"cannot write {self.folder}", OSError):
            for file in files:
                file.unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings differ, for people; nothing if none does."""
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    told = [f"{name} {_shown(old.get(name))}, now {_shown(new.get(name))}" for name in names if name != "weights"]
    return "; ".join([*told, *(["the model has other weights"] if "weights" in names else [])])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = cast(dict[str, Any], value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{key}": entry for key, entry in inner.items()}
    return flat


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "+".join(str(item) for item in cast(list[object], value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
