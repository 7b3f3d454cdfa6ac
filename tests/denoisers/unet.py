"""Networks of `pag.families.unet`: those of Stable Diffusion are in `tests.zoo`, and these with them."""

from typing import Any

from diffusers import UNet2DConditionModel
from torch import Generator

from tests import zoo
from tests.denoisers._network import Network


def _network(kind: str, uncond: tuple[str, ...], *paths: str, **facts: Any) -> Network:
    def make() -> Any:
        return UNet2DConditionModel(**zoo.unet_config(kind))

    def inputs(rows: int, generator: Generator) -> dict[str, Any]:
        return zoo.inputs(make(), rows, seed=int(generator.initial_seed()))

    return Network(make, inputs, paths, tables=("timestep",), uncond=uncond, **facts)


_MID = "mid_block.attentions.0"
_TEXT, _ADDED = ("encoder_hidden_states",), ("encoder_hidden_states", "added_cond_kwargs")
_SIMPLE = (_MID, "down_blocks.1.attentions.0", "up_blocks.1.attentions.0")
"""Their queries are the image's tokens; their keys are the text's and, behind them, the image's."""

NETWORKS = {
    "sd": _network("sd15", _TEXT, f"{_MID}.transformer_blocks.0.attn1"),
    "sdxl": _network("sdxl", _ADDED, f"{_MID}.transformer_blocks.0.attn1", f"{_MID}.transformer_blocks.1.attn1"),
    "latent_upscaler": _network("latent_upscaler", _TEXT, "down_blocks.3.attentions.0.attn1"),
    "if": _network("if", _TEXT, *_SIMPLE, variance=True),
    "if_upscaler": _network("if_upscaler", _TEXT, *_SIMPLE, variance=True, rounding=3e-5),  # 4e-6 of its own
    "kandinsky": _network("kandinsky", _ADDED, *_SIMPLE, variance=True),
    "kandinsky22": _network("kandinsky22", _ADDED, *_SIMPLE, variance=True),
    "kandinsky22_hint": _network("kandinsky22_hint", _ADDED, *_SIMPLE, variance=True),
}
