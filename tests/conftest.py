"""Set-up of every test: no network, few threads, checked shapes, fixed seeds."""

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch

from tests import shapes

# Read when diffusers and huggingface_hub are imported, so set before.
_code = tempfile.TemporaryDirectory(prefix="pag-")
os.environ["HF_MODULES_CACHE"] = _code.name  # where diffusers puts the code of custom pipelines
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

shapes.install("pag")
torch.set_num_threads(1)  # on tiny networks threads mostly wait for one another, badly so on a busy machine


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:  # pyright: ignore[reportUnusedFunction]
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _native_attention() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """`set_attention_backend` of one model sets the default of all models."""
    from diffusers.models import attention_dispatch

    registry = attention_dispatch._AttentionBackendRegistry  # pyright: ignore[reportPrivateUsage]
    before = registry._active_backend  # pyright: ignore[reportPrivateUsage]
    yield
    registry.set_active_backend(before)
