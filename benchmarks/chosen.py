"""Results by what they are of: contests and their contenders, schedulers and steps."""

from typing import Any

from benchmarks.fidelity import SCHEDULERS

MODELS = {
    "sd15": "Stable Diffusion 1.5",
    "sd15_controlnet": "Stable Diffusion 1.5 with a ControlNet",
    "pixart_sigma": "PixArt-Σ",
    "guiders": "U-Net of 1.5 in a modular pipeline of XL",
    "avatars": "the embedded model, prompts to images",
    "sdxl": "Stable Diffusion XL",
    "sd35_medium": "Stable Diffusion 3.5 medium",
    "flux": "the size of Flux.1 dev",
}
PEERS, OURS = ("diffusers", "diffusers' guider"), ("here", "our guider")

Result = dict[str, Any]
Results = dict[str, Result]


def contests(known: Results, device: str) -> list[Result]:
    """Results of contests on a kind of device."""
    order = list(MODELS)
    found = [one for one in known.values() if "contenders" in one and one["device"] == device]
    return sorted(found, key=lambda one: (order.index(one["model"]), one["steps"], one["batch"], one["size"]))


def find(result: Result, kind: str, by: tuple[str, ...] = ("",)) -> Result | None:
    """The contender of a kind by one of some."""
    found = (one for one in result["contenders"] if one["kind"] == kind and one["by"] in by and one["seconds"])
    return next(found, None)


def by_scheduler(known: Results, part: str, steps: int) -> dict[str, Result]:
    """Results of a part with a number of steps, by scheduler."""
    results = {name: known.get(f"{part}-{name}-{steps}") for name in SCHEDULERS}
    return {name: one for name, one in results.items() if one is not None}
