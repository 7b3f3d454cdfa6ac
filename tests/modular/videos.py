"""Modular pipelines of videos."""

from typing import Any

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.modular._run import ModularRun
from tests.modular.images import embeddings, transformer
from tests.runs.wan import vae


def _wan() -> dict[str, Any]:
    return transformer("wan") | {"vae": vae()}


def _wan22() -> dict[str, Any]:
    return _wan() | {"transformer_2": strong(NETWORKS["wan"].make)}


def _video() -> dict[str, Any]:
    return embeddings() | {"height": 32, "width": 32, "num_frames": 9}


RUNS = {
    "WanBlocks": ModularRun("WanBlocks", _wan, _video, "blocks.1.attn1"),
    "Wan22Blocks": ModularRun("Wan22Blocks", _wan22, _video, "blocks.1.attn1", guiders=("guider", "guider_2")),
}
