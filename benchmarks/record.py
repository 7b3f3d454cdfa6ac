"""What a result says of where it comes from, and the files that results are kept in."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

import pag

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MEASURED = ("src", "benchmarks/*.py", "recipes/*/*.py")


def write(folder: Path, name: str, result: dict[str, Any]) -> Path:
    """Write a result with commit, machine, versions and date. The file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"name": name, **about(result.get("device", "cpu")), **result}, indent=1) + "\n")
    partial.replace(file)
    return file


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """All results of a folder by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def about(device: str) -> dict[str, Any]:
    """Commit, date, machine and versions."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": _git("status", "--porcelain", "--", *MEASURED).splitlines(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "pag": pag.__version__,
        },
    }


def machine(device: str) -> dict[str, Any]:
    """What it runs on."""
    found: dict[str, Any] = {
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory in GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu memory in GiB"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        found["cuda"] = torch.version.cuda
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
