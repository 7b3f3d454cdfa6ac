"""Sampling of ADM, the pixel-space diffusion models of guided-diffusion, with PAG and without."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from pag.adm.gradient import class_gradient
from pag.adm.labels import Label, imagenet_names, label_ids, names_by_number
from pag.adm.respace import set_timesteps
from pag.adm.steps import Steps, check_scheduler
from pag.pipelines._sister import set_sister
from pag.pipelines.mixin import PAGMixin
from pag.schedule import check_number

__all__ = ["ADMPipeline", "AblatedDiffusionPipeline"]


class AblatedDiffusionPipeline(DiffusionPipeline):
    """Images without conditions, or of a class, from ADM models in pixel space (arXiv 2105.05233).

    Args:
        unet (`UNet2DModel`):
            Predicts the noise and, if it has twice as many output channels as input channels, the variance.
        scheduler (`SchedulerMixin`):
            Any of diffusers' schedulers for models that predict noise.
        classifier (`ADMClassifier`, *optional*):
            A classifier of noisy images, for classifier guidance.
        id2label (`dict[int, str]`, *optional*):
            Names of the classes by number; synonyms have commas between them.
    """

    model_cpu_offload_seq = "classifier->unet"
    _optional_components: ClassVar[list[str]] = ["classifier"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "noise_pred"]

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        classifier: ModelMixin | None = None,
        id2label: Mapping[Any, str] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, classifier=classifier)
        if id2label is not None:
            id2label = {str(number): name for number, name in names_by_number(id2label).items()}
        self.register_to_config(id2label=id2label)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1, do_resize=False)
        self._interrupt = False
        self._num_timesteps = 0

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """A pipeline of this class with the components of another one, none of them copied.

        Args:
            pipeline (`DiffusionPipeline`): any with a `unet` and a `scheduler`, such as a `DDPMPipeline`.
            **kwargs: components or settings to use instead, such as `classifier`.
        """
        # diffusers takes over components of the very classes in the signature only, none of their subclasses.
        for name in ("unet", "scheduler", "classifier"):
            if name in pipeline.components:
                kwargs.setdefault(name, pipeline.components[name])
        return super().from_pipe(pipeline, **kwargs)

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the classes by number: those given, or those of ImageNet if there are 1,000 classes."""
        given = self.config["id2label"]
        if given is None:
            return imagenet_names() if self.num_classes == 1000 else {}
        return names_by_number(given)

    @property
    def num_classes(self) -> int | None:
        """How many classes the U-Net, or else the classifier, knows."""
        if (count := self.unet.config.num_class_embeds) is not None:
            return int(count)
        config = getattr(self.classifier, "config", None)
        counts = [getattr(config, name, None) for name in ("num_classes", "out_channels")]
        return next((int(count) for count in counts if count is not None), None)

    @property
    def num_timesteps(self) -> int:
        """Steps of the current or last call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the current call does nothing in the steps to come; a callback sets ``pipe._interrupt``."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        num_images: int = 1,
        class_labels: Label | Sequence[Label] | Tensor | None = None,
        num_inference_steps: int = 25,
        timesteps: list[int] | None = None,
        eta: float = 0.0,
        generator: Generator | list[Generator] | None = None,
        latents: Tensor | None = None,
        classifier_scale: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample images.

        Args:
            num_images (`int`, *optional*, defaults to 1):
                How many images; of each label, if there are labels.
            class_labels (`int`, `str` or a list of them, *optional*):
                Classes, by number or by name. If the model is conditional and none are given, each image's class is
                drawn from its generator, before its noise.
            num_inference_steps (`int`, *optional*, defaults to 25):
                Steps of the scheduler.
            timesteps (`list[int]`, *optional*):
                The timesteps themselves, falling, with schedulers that take them.
            eta (`float`, *optional*, defaults to 0.0):
                How much noise DDIM adds.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                One, or one for each image, which then depends on its own alone.
            latents (`torch.Tensor`, *optional*):
                Noise to begin with, of shape (images, channels, height, width).
            classifier_scale (`float`, *optional*, defaults to 0.0):
                Strength of classifier guidance, which needs a `classifier` and classes; 0 is off. DDPM's mean moves by
                the variance times the gradient of `log p(class | sample)`, the noise for other schedulers by
                `-sqrt(1 - alpha_bar)` times that.
            output_type (`str`, *optional*, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"`, or `"latent"`, which is the sample from -1 to 1 as it is.
            return_dict (`bool`, *optional*, defaults to `True`):
                Whether to return an `ImagePipelineOutput`, or a tuple.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipe, step, timestep, tensors)` after each step. Tensors that it returns are taken.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*):
                Which tensors it gets: `"latents"`, if not given, and `"noise_pred"`.

        Returns:
            `ImagePipelineOutput` or `tuple`: the images.
        """
        self._check(num_images, num_inference_steps, eta, classifier_scale, callback_on_step_end_tensor_inputs)
        labels = self._classes(num_images, class_labels, generator, classifier_scale > 0)
        count = num_images if labels is None else len(labels)
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"{len(generator)} generators were given for {count} images: pass one for each.")
        times = set_timesteps(self.scheduler, num_inference_steps, timesteps, self._execution_device)
        noise = self._noise(count, generator, latents)
        predicted = self.unet.config.out_channels
        steps = Steps(self.scheduler, noise.shape[1], predicted, eta, generator, classifier_scale > 0)
        names = ["latents"] if callback_on_step_end_tensor_inputs is None else callback_on_step_end_tensor_inputs
        callback = callback_on_step_end and _callback(self, callback_on_step_end, names)
        sample = self._denoise(times, noise, labels, steps, classifier_scale, callback)
        images: Any = self.image_processor.postprocess(sample, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _denoise(
        self, timesteps: Any, sample: Tensor, labels: Tensor | None, steps: Steps, scale: float, callback: Any
    ) -> Tensor:
        self._interrupt, self._num_timesteps = False, len(timesteps)
        gradient = None
        given = {"class_labels": labels} if self._conditional else {}
        progress_bar: Any = self.progress_bar
        with progress_bar(total=len(timesteps)) as bar:
            for step, t in enumerate(timesteps):
                if self._interrupt:
                    continue
                noisy = self.scheduler.scale_model_input(sample, t)
                if scale > 0 and labels is not None:
                    gradient = scale * class_gradient(self.classifier, noisy, t, labels)
                noise_pred = self.unet(noisy.to(self.unet.dtype), t, **given).sample.to(sample.dtype)
                sample = steps.next(noise_pred, step, sample, gradient)
                if callback:
                    sample = callback(step, t, {"latents": sample, "noise_pred": noise_pred})
                bar.update()
        return sample

    def _check(self, num_images: int, steps: int, eta: float, classifier_scale: float, names: list[str] | None) -> None:
        wrong = [name for name in names or () if name not in self._callback_tensor_inputs]
        if wrong:
            raise ValueError(f"A callback can get {self._callback_tensor_inputs}, but not {wrong}.")
        if isinstance(num_images, bool) or not isinstance(num_images, int) or num_images < 1:
            raise ValueError(f"num_images must be a whole number of at least 1, but is {num_images!r}.")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"num_inference_steps must be a whole number of at least 1, but is {steps!r}.")
        check_number("eta", eta)
        check_number("classifier_scale", classifier_scale)
        check_scheduler(self.scheduler, eta=eta)
        if classifier_scale > 0 and self.classifier is None:
            raise ValueError(
                f"classifier_scale={classifier_scale} needs a classifier of noisy images, which this pipeline lacks: "
                "`ADMPipeline.from_pipe(pipe, classifier=…)`."
            )

    @property
    def _conditional(self) -> bool:
        return self.unet.config.num_class_embeds is not None

    def _classes(self, num_images: int, class_labels: Any, generator: Any, wanted: bool) -> Tensor | None:
        count = self.num_classes
        if not self._conditional and class_labels is not None and not wanted:
            why = "" if self.classifier is None else " Its classifier does, with a classifier_scale above 0."
            raise ValueError(f"This model is unconditional: it knows no classes, so leave out class_labels.{why}")
        if not self._conditional and class_labels is None:
            if wanted:
                raise ValueError("Classifier guidance needs class_labels: the class that each image is guided to.")
            return None
        if class_labels is None:
            numbers = _random_classes(num_images, count or 0, generator)
        else:
            numbers = [number for number in label_ids(class_labels, self.id2label, count) for _ in range(num_images)]
        return torch.tensor(numbers, device=self._execution_device)

    def _noise(self, count: int, generator: Any, latents: Tensor | None) -> Tensor:
        size = self.unet.config.sample_size
        shape = (count, self.unet.config.in_channels, *((size, size) if isinstance(size, int) else size))
        # Half precision would add up its rounding over hundreds of steps.
        dtype = torch.promote_types(self.unet.dtype, torch.float32)
        device = self._execution_device
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"latents must be of shape {shape}, but are of {tuple(latents.shape)}.")
        return latents.to(device, dtype) * self.scheduler.init_noise_sigma


class ADMPipeline(PAGMixin, AblatedDiffusionPipeline):
    """Images without conditions, or of a class, from ADM models with PAG (arXiv 2403.17377).

    The prediction ``e`` of the noise is moved away from ``ê``, that with perturbed self-attention: ``e + s·(e − ê)``.
    The paper's authors write ``ê + guide_scale·(e − ê)``, so their ``guide_scale`` is ``s + 1``. A learned variance
    stays that of the unperturbed prediction. Their scripts use s = 3, which is the default here, with 25 steps of
    DDIM; the paper's Table 1 is s = 1 with 250 steps of DDPM.
    """

    _pag_example = """
        >>> import torch
        >>> import pag

        >>> pipe = pag.ADMPipeline.from_pretrained("adm-imagenet256", dtype=torch.float16).to("cuda")
        >>> images = pipe(num_images=4, generator=[torch.Generator().manual_seed(i) for i in range(4)]).images
    """


set_sister(AblatedDiffusionPipeline, ADMPipeline)


def _callback(pipe: Any, callback: Callable[..., Any], names: Sequence[str]) -> Callable[..., Tensor]:
    def call(step: int, timestep: Any, tensors: dict[str, Tensor]) -> Tensor:
        returned = callback(pipe, step, timestep, {name: tensors[name] for name in names})
        return (returned or {}).get("latents", tensors["latents"])

    return call


def _random_classes(images: int, count: int, generator: Any) -> list[int]:
    each = generator if isinstance(generator, list) else [generator] * images
    return [
        int(torch.randint(count, (1,), generator=one, device=one.device if one is not None else "cpu")) for one in each
    ]
