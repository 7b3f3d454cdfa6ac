"""Many samples of an ADM model in one `.npz`, made in shards and batches, and gone on with after a kill."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pag.adm.batches import Batches, Samples
from pag.adm.merge import is_complete, merge_if_all, remove_shards, shard_file
from pag.adm.npz import write_npz
from pag.adm.parts import Parts
from pag.generate.errors import UserError
from pag.generate.png import output_folder

__all__ = ["Samples", "block", "sample"]

Told = Callable[[int], None]

TABLE_1 = Samples()


def sample(
    pipe: Any,
    out: str | Path,
    samples: Samples = TABLE_1,
    *,
    batch: int = 1,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    low_memory: bool = False,
    on_step: Callable[[float], None] | None = None,
    on_done: Told | None = None,
) -> bool:
    """Write samples to `out`, or go on with that: the file appears when it is complete.

    An image depends on its seed alone: shards, kills and the images beside it change no bit of it. The size of a batch
    may change its rounding, by at most 1 of 255, and so may another device, or shards that are smaller than a batch.

    Args:
        pipe: an `ADMPipeline`, with the scheduler to use (see `pag.adm.samplers`).
        out: an `.npz` file of `arr_0`: uint8[num, height, width, 3] and, where there are classes, `arr_1`: int64[num].
        samples: which samples.
        batch: images at a time, which are what a kill can lose.
        shard: ``(k, K)``, k from 0: make block k of K alone, in a file beside `out`; the last of them merges all.
        force: start again.
        low_memory: run perturbed rows after the others.
        on_step: called after every step with the number of images' worth of work that it did.
        on_done: called with the number of images that are on the disk, at first and after each batch.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: the settings cannot be met, or are not those that `out` was begun with; a file cannot be written.
    """
    whole = _file(Path(out))
    batches = Batches(pipe, samples, low_memory, on_step)
    report = on_done or (lambda _: None)
    shards = 1 if shard is None else shard[1]
    batch = min(batch, math.ceil(samples.num / max(1, shards)))
    if shard is None:
        return _write(batches, whole, range(samples.num), batches.record, batch, force, report)
    images = block(samples.num, *shard)
    if is_complete(whole, batches.record, force=force):
        remove_shards(whole, shard[1])
        return False
    record = {**batches.record, "shard": shard[0], "shards": shard[1]}
    made = _write(batches, shard_file(whole, *shard), images, record, batch, force, report)
    return merge_if_all(whole, shard[1]) or made


def _write(
    batches: Batches, file: Path, images: range, record: Mapping[str, Any], batch: int, force: bool, report: Told
) -> bool:
    parts = Parts(file, batches.shape)
    if is_complete(file, record, force=force):
        parts.remove()  # of a run that was killed at the very end
        return False
    with output_folder(file.parent), parts.opened(record, force=force):
        report(done := sum(stop - start for start, stop in parts.done()))
        for some in parts.missing(images, batch):
            parts.add(some.start, batches.draw(some, batch))
            report(done := done + len(some))
        shape = (len(images), *batches.shape)
        write_npz(file, shape, parts.blocks(), batches.labels(images), record, parts.folder)
        parts.remove()
    return True


def _file(out: Path) -> Path:
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file, such as {out / 'samples.npz'}")
    if out.suffix != ".npz":
        raise UserError(f"--out {out} should end in .npz, as what reads it goes by that")
    return out


def block(num: int, index: int, count: int) -> range:
    """The images of a shard."""
    if not 0 <= index < count:
        raise UserError(f"no shard {index}: of {count} shards the first is 0 and the last {count - 1}")
    if count > num:
        raise UserError(f"{num} images cannot be made in {count} shards: at least one image is needed for each")
    return range(num * index // count, num * (index + 1) // count)
