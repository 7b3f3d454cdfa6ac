"""Set-up of every test: no network, few threads, checked shapes, fixed seeds."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read at import time, so before anything imports huggingface_hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests import shapes

shapes.install("pag")
torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:  # pyright: ignore[reportUnusedFunction]
    torch.manual_seed(0)
