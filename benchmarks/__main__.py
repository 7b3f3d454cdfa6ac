"""``python -m benchmarks [NAME …]``: measure the parts that are named, all if none is, and write the page."""

import argparse
import gc
import time
import traceback
import warnings
from fnmatch import fnmatch
from pathlib import Path

import diffusers
import torch
import transformers

from benchmarks import fidelity, page, record, scale, speed

PARTS: dict[str, speed.Part] = speed.ON_CPU | scale.PARTS | fidelity.PARTS | speed.ON_GPU


def main(arguments: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts, or patterns such as 'sd15-*'; default: all")
    parser.add_argument("--resume", action="store_true", help="leave out what this commit has a result of")
    parser.add_argument("--small", action="store_true", help="tiny networks, to try the benchmark itself")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder of the results")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    options = parser.parse_args(arguments)
    if options.small and options.results == record.RESULTS:
        parser.error("--small needs --results: what tiny networks need is no result")
    names = chosen(options.names, options.small)
    if options.list:
        print(*names, sep="\n")
        return
    wanted = [name for name in names if not (options.resume and _is_there(options.results, name))]
    failed = [name for name in wanted if not _measure(name, options.small, options.results)]
    page.write(options.results, options.results if options.small else page.DOCS)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


def _quiet() -> None:
    for library in (transformers, diffusers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")


def chosen(patterns: list[str], small: bool) -> list[str]:
    """Names of the parts that are asked for and can run here: those for a GPU need one, or to be small.

    Raises:
        SystemExit: if a pattern is no name.
    """
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in PARTS):
            raise SystemExit(f"No part is named {pattern!r}. There are: {', '.join(PARTS)}.")
    able = [name for name in PARTS if small or torch.cuda.is_available() or name not in speed.ON_GPU]
    return [name for name in able if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


def _is_there(folder: Path, name: str) -> bool:
    known = record.read(folder).get(name)
    return known is not None and known["commit"] == record.about("cpu")["commit"]


def _measure(name: str, small: bool, folder: Path) -> bool:
    """Measure a part. What fails does not keep the others from being measured."""
    start = time.perf_counter()
    try:
        with torch.no_grad():
            result = PARTS[name](small)
    except Exception:
        traceback.print_exc()
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    seconds = round(time.perf_counter() - start, 1)
    print(f"{name}: {seconds} s -> {record.write(folder, name, {'took': seconds, **result})}", flush=True)
    return True


if __name__ == "__main__":
    _quiet()
    main()
