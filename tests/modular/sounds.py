"""Modular pipelines of sound."""

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, MiniMaxMusic3ConditionEncoder

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.modular._run import ModularRun
from tests.modular.images import noise


def _condition_encoder() -> MiniMaxMusic3ConditionEncoder:
    return MiniMaxMusic3ConditionEncoder(condition_hidden_dim=8, num_condition_layers=2, out_dim=16)


def _music() -> dict[str, Any]:
    return {
        "transformer": strong(NETWORKS["minimax music"].make),
        "condition_encoder": strong(_condition_encoder),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


RUNS = {
    "MiniMaxMusic3Blocks": ModularRun(
        "MiniMaxMusic3Blocks",
        _music,
        lambda: {"frame_hiddens": noise(1, 1, 4, 16)},
        "transformer_blocks.1.attn",
        slice(1, 14),
        output="latent_chunks",
    )
}
