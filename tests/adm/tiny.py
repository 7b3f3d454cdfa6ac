"""Tiny random ADM models, and the least pipeline that samples can be made with."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, DDPMScheduler, DiffusionPipeline, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

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


class LeastPipeline(DiffusionPipeline):
    """The part of the interface of `pag.ADMPipeline` that samples are made by."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.id2label = NAMES
        self.calls: list[int] = []

    @torch.no_grad()
    def __call__(
        self,
        num_images: int = 1,
        class_labels: list[int] | None = None,
        num_inference_steps: int = 25,
        eta: float = 0.0,
        generator: Any = None,
        output_type: str = "pil",
        callback_on_step_end: Any = None,
    ) -> ImagePipelineOutput:
        assert output_type == "pt"
        config: Any = self.unet.config
        scheduler: Any = self.scheduler
        count = num_images if class_labels is None else len(class_labels)
        self.calls.append(count)
        size = (count, config.in_channels, config.sample_size, config.sample_size)
        noisy: Any = randn_tensor(size, generator=generator, device=self.device, dtype=self.unet.dtype)
        labels = None if class_labels is None else torch.tensor(class_labels)
        scheduler.set_timesteps(num_inference_steps)
        more = {"generator": generator, "eta": eta, "use_clipped_model_output": True}
        known = inspect.signature(scheduler.step).parameters
        for step, time in enumerate(scheduler.timesteps):
            predicted: Any = self.unet(noisy, time, class_labels=labels).sample
            if not isinstance(self.scheduler, DDPMScheduler):
                predicted = predicted[:, : config.in_channels]
            more = {name: value for name, value in more.items() if name in known}
            noisy = scheduler.step(predicted, time, noisy, **more).prev_sample
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, time, {"latents": noisy})
        pictures: Any = (noisy / 2 + 0.5).clamp(0, 1)
        return ImagePipelineOutput(images=pictures)


def pipeline(channels: int = 3, classes: int | None = None, seed: int = 0) -> Any:
    scheduler = DDPMScheduler(variance_type="learned_range", timestep_spacing="linspace")
    pipe = LeastPipeline(unet(channels, classes, seed), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(folder: Path, channels: int = 3, classes: int | None = None) -> Path:
    pipeline(channels, classes).save_pretrained(folder)
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
