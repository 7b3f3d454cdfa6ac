"""Operations and memory against which layers are perturbed, how many, and resolution: counted, not timed."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

import pag
from benchmarks import models
from benchmarks.contest import activations, pipelines
from benchmarks.speed import Part
from benchmarks.subject import Setting


def layers(small: bool) -> dict[str, Any]:
    """What perturbing each self-attention layer alone costs, and several from the end on."""
    size = 128 if small else 512
    networks = {
        "Stable Diffusion 1.5": models.sd15_unet(Setting(size, device="meta", small=small)),
        "PixArt-Σ": models.pixart_network(Setting(size, device="meta", small=small)),
    }
    return {"device": "meta", "size": size, "networks": {name: _layers(one) for name, one in networks.items()}}


def sizes(small: bool) -> dict[str, Any]:
    """Operations and memory of one step of Stable Diffusion 1.5 against the resolution."""
    counted = []
    for size in (128,) if small else (256, 384, 512, 768, 1024):
        network = models.sd15_unet(Setting(size, device="meta", small=small))
        counted.append({"size": size, "cost": asdict(pag.cost(network)), "memory": asdict(pag.memory(network))})
    return {"device": "meta", "network": "Stable Diffusion 1.5", "counted": counted}


def memory(small: bool) -> dict[str, Any]:
    """The most bytes of activations that are alive at once in a step of whole pipelines, of each contender."""
    setting = Setting(128 if small else 256, small=small)
    makes = (models.sd15, models.sd15_controlnet, models.pixart_sigma)
    counts = {
        make.__name__: {one.name: activations(one.run) for one in pipelines(make(setting), low_memory=True).contenders}
        for make in makes
    }
    return {"size": setting.size, "activations": counts}


def _layers(network: nn.Module) -> dict[str, Any]:
    each = pag.layer_costs(network)
    paths = [one.site.path for one in each]
    # Those near the middle of the network first, as one would choose them.
    order = sorted(paths, key=lambda path: abs(paths.index(path) - len(paths) // 2))
    counts = sorted({1, 2, 4, 8, len(paths)} & set(range(1, len(paths) + 1)))
    with torch.no_grad():
        costs = {count: pag.cost(network, [path for path in paths if path in order[:count]]) for count in counts}
    return {
        "each": [{"layer": str(one.site), "tokens": one.tokens, "extra": one.extra} for one in each],
        "several": [{"layers": count, "executed": one.executed, "floor": one.floor} for count, one in costs.items()],
    }


PARTS: dict[str, Part] = {"layers": layers, "sizes": sizes, "memory": memory}
