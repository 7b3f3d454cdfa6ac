"""What is measured: a setting, and a network in the pipelines that compete."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """What is drawn.

    Args:
        size: height and width in pixels.
        batch: number of images.
        steps: number of sampling steps.
        device: where the network is.
        dtype: its precision.
        small: a tiny network of the same make instead, to try the benchmark itself.
    """

    size: int = 256
    batch: int = 1
    steps: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    small: bool = False

    def noise(self, seed: int, *shape: int) -> Tensor:
        """Numbers for each image that stand for embeddings, whose values do not matter."""
        drawn = torch.randn(self.batch, *shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.device, getattr(torch, self.dtype))

    def network(self, cls: Callable[..., nn.Module], full: dict[str, Any], small: dict[str, Any]) -> Any:
        """A network with random weights, the same each time, made where it is used. Its attention matters."""
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, self.dtype))
        try:
            with torch.device(self.device):
                made = cls(**(full | (small if self.small else {}))).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(default)
        for name, parameter in made.named_parameters() if self.device != "meta" else ():
            if parameter.ndim > 1 and "attn" in name:
                parameter.mul_(2)
            elif not parameter.any():  # a new network's gates and output layers
                nn.init.normal_(parameter, std=0.1)
        return made

    def call(self, **more: Any) -> dict[str, Any]:
        """Arguments of a pipeline's call that all have in common."""
        size = {"height": self.size, "width": self.size, "num_inference_steps": self.steps}
        return size | {"output_type": "latent", "generator": torch.Generator().manual_seed(0)} | more


@dataclass(frozen=True)
class Subject:
    """A network in the pipelines that compete.

    Args:
        network: the denoiser.
        plain: diffusers' pipeline, guided by nothing or by :func:`pag.guide`.
        peer: diffusers' own PAG pipeline with the same components, or None.
        arguments: makes the arguments of a call, without scales.
        layers: the layers to perturb; None takes those recommended.
        cfg: name of the scale of classifier-free guidance.
        g: that scale.
        s: the scale of PAG.
    """

    network: nn.Module
    plain: Any
    peer: Any
    arguments: Callable[[], dict[str, Any]]
    layers: str | None = None
    cfg: str = "guidance_scale"
    g: float = 5.0
    s: float = 3.0

    def draw(self, pipe: Any, cfg: bool, **more: Any) -> Tensor:
        """What a pipeline returns."""
        pipe.set_progress_bar_config(disable=True)
        scale = {self.cfg: self.g if cfg else 1.0}
        return pipe(**(self.arguments() | scale | more), return_dict=False)[0]
