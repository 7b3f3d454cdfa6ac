"""How noisy the sample of a call is, and how much of it is the image: from what the scheduler tells."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_LOGARITHMIC = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
"""Settings with which schedulers take a timestep between two trained ones by the logarithm of the noise."""


@dataclass(frozen=True)
class Level:
    """The image in a network's noisy input ``z``: ``p·z + q·F`` for what the network returns, ``F``.

    With ``z = a·x₀ + b·n`` that is ``a·x₀``: where the network predicts the noise, p is 1 and q is -b.

    Args:
        of_input: p.
        of_output: q.
    """

    of_input: Tensor | float
    of_output: Tensor | float

    def image(self, noisy: Tensor, output: Tensor) -> Tensor:
        """The image as it is in the input, ``a·x₀``."""
        return self.of_input * noisy + self.of_output * output


def level_of(scheduler: Any, time: float) -> Level:
    """The level of a call.

    Args:
        scheduler: of the pipeline.
        time: the timestep, as the scheduler counts.

    Raises:
        TypeError: if nobody knows what the scheduler's networks predict.
    """
    config = getattr(scheduler, "config", {})
    kind = config.get("prediction_type", "flow_prediction")
    if "sigma_data" in config and kind in ("epsilon", "v_prediction"):
        return _edm(math.exp(4 * time), float(config["sigma_data"]), kind)
    if getattr(scheduler, "alphas_cumprod", None) is None or config.get("use_flow_sigmas"):
        if kind == "flow_prediction" and ("shift" in config or config.get("use_flow_sigmas")):
            return _flow(time / config["num_train_timesteps"])
    elif kind in ("epsilon", "v_prediction", "sample"):
        return _diffusion(*_shares(scheduler, time), kind)
    raise TypeError(
        f"{type(scheduler).__name__} (prediction_type={kind!r}) does not tell how much of a sample is noise. Methods "
        "that change what the network gets need a scheduler of diffusion (with alphas_cumprod) or of flow matching."
    )


def _diffusion(signal: Tensor | float, noise: Tensor | float, kind: str) -> Level:
    """``z = a·x₀ + b·n``: the network predicts n, ``a·n − b·x₀`` or x₀."""
    if kind == "epsilon":
        return Level(1.0, -noise)
    return Level(signal**2, -signal * noise) if kind == "v_prediction" else Level(0.0, signal)


def _flow(noise: float) -> Level:
    """``z = (1 − σ)·x₀ + σ·n``: the network predicts ``n − x₀``."""
    return Level(1 - noise, -noise * (1 - noise))


def _edm(sigma: float, data: float, kind: str) -> Level:
    """``z = (x₀ + σ·n)/√(σ² + d²)``: the network predicts x₀ less its share of z (arXiv 2206.00364)."""
    total = sigma**2 + data**2
    return Level(data**2 / total, (1 if kind == "epsilon" else -1) * sigma * data / total)


def _shares(scheduler: Any, time: float) -> tuple[Tensor | float, Tensor | float]:
    """√ᾱ and √(1 − ᾱ) of a timestep, without asking the device for a value."""
    config, table = scheduler.config, scheduler.alphas_cumprod
    if config.get("timestep_type") == "continuous":
        sigma = math.exp(4 * time)
        return 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    time = min(max(time, 0.0), len(table) - 1)
    before, part = int(time), time - int(time)
    if not part:
        return table[before] ** 0.5, (1 - table[before]) ** 0.5
    low, high = (((1 - table[index]) / table[index]) ** 0.5 for index in (before, before + 1))
    logarithmic = any(config.get(name) for name in _LOGARITHMIC)
    sigma = low ** (1 - part) * high**part if logarithmic else (1 - part) * low + part * high
    return 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5


def share_of_steps(scheduler: Any) -> float:
    """How many of the steps are done."""
    index = scheduler.step_index
    if index is None:
        index = getattr(scheduler, "begin_index", None) or 0
    steps = len(scheduler.timesteps)
    # Some schedulers list the end of the last step too; those that take a step in several parts list the parts.
    return index / (min(steps, scheduler.num_inference_steps or steps) if scheduler.order == 1 else steps)
