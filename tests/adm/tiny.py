"""Tiny random ADM models, and a pipeline that counts."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, DDIMScheduler, DDPMScheduler, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor

import pag

SIZE, CLASSES = 8, 5
NAMES = {0: "tench, Tinca tinca", 1: "goldfish", 2: "great white shark", 3: "tiger shark", 4: "hammerhead"}


def unet(channels: int = 3, classes: int | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=SIZE,
        in_channels=channels,
        out_channels=2 * channels,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=16,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=classes,
    ).eval()


def ddpm() -> Any:
    return DDPMScheduler(variance_type="learned_range", timestep_spacing="linspace")


def ddim() -> Any:
    return DDIMScheduler(timestep_spacing="leading", steps_offset=0)


def made(classes: int | None = None, scheduler: Any = None, channels: int = 3, **more: Any) -> Any:
    pipe: Any = pag.ADMPipeline(unet(channels, classes), scheduler or ddim(), **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def run(pipe: Any, **call: Any) -> Tensor:
    return pipe(**{"num_inference_steps": 2, "output_type": "latent", "generator": seeds(0)} | call).images


class CountingPipeline(pag.ADMPipeline):
    """`pag.ADMPipeline`, and how many images each of its calls made."""

    calls: ClassVar[list[int]] = []

    def __call__(self, *args: Any, **call: Any) -> Any:
        output = super().__call__(*args, **call)
        self.calls.append(len(output.images))
        return output


def pipeline(channels: int = 3, classes: int | None = None, seed: int = 0) -> Any:
    pipe: Any = CountingPipeline(unet(channels, classes, seed), ddpm(), id2label=NAMES if classes else None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(folder: Path, channels: int = 3, classes: int | None = None) -> Path:
    pipe = pipeline(channels, classes)
    pag.ADMPipeline(pipe.unet, pipe.scheduler, id2label=pipe.config.id2label).save_pretrained(folder)
    return folder


class Classifier(ModelMixin, ConfigMixin):
    """A stand-in for a noisy classifier: it sees the image and the time."""

    @register_to_config
    def __init__(self, channels: int = 3, num_classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.see = torch.nn.Conv2d(channels, 16, 3, padding=1)
        self.tell = torch.nn.Linear(16, num_classes)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        assert timestep.shape == (len(sample),)
        seen = self.see(sample) * (1 + timestep / 1000).to(sample.dtype)[:, None, None, None]
        return 20 * self.tell(torch.tanh(seen).mean((2, 3)))
