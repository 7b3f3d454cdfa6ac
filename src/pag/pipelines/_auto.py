"""The PAG class for a task and a model, found as diffusers' `AutoPipeline` classes find theirs."""

from types import SimpleNamespace
from typing import Any, ClassVar

from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image

from pag.pipelines._sister import pag_pipeline


class _AutoPAGPipeline:
    _auto: ClassVar[Any]

    def __init__(self) -> None:
        raise OSError(f"{type(self).__name__} is made with `from_pretrained` or `from_pipe`.")

    @classmethod
    def from_pretrained(cls, pretrained_model_or_path: Any, **kwargs: Any) -> Any:
        """Load a model with the PAG class of this task.

        Args:
            pretrained_model_or_path: repository or folder of a diffusers model.
            **kwargs: arguments of diffusers' `AutoPipeline` class, and `pag_applied_layers`. A `controlnet` chooses the
                class for it.

        Returns:
            The PAG sister of the pipeline that diffusers' class loads.
        """
        layers = _layers(kwargs)
        plain = cls._auto.from_pretrained(pretrained_model_or_path, **kwargs)
        pipe = _sister_of(plain, layers)
        pipe.hf_device_map = plain.hf_device_map
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """Make the PAG pipeline of this task from the components of another pipeline, none of them copied.

        Args:
            pipeline: any pipeline of the model, plain or PAG.
            **kwargs: arguments of diffusers' `AutoPipeline` class, and `pag_applied_layers`. A `controlnet` chooses the
                class for it.

        Returns:
            The PAG sister of the pipeline that diffusers' class makes.
        """
        layers = _layers(kwargs)
        if not layers and (taken := getattr(pipeline, "pag_applied_layers", None)) is not None:
            layers = {"pag_applied_layers": taken}
        return _sister_of(cls._auto.from_pipe(_plain(pipeline), **kwargs), layers)


class AutoPAGPipelineForText2Image(_AutoPAGPipeline):
    """Text-to-image with PAG, for any model that diffusers' `AutoPipelineForText2Image` knows."""

    _auto = AutoPipelineForText2Image


class AutoPAGPipelineForImage2Image(_AutoPAGPipeline):
    """Image-to-image with PAG, for any model that diffusers' `AutoPipelineForImage2Image` knows."""

    _auto = AutoPipelineForImage2Image


class AutoPAGPipelineForInpainting(_AutoPAGPipeline):
    """Inpainting with PAG, for any model that diffusers' `AutoPipelineForInpainting` knows."""

    _auto = AutoPipelineForInpainting


def _layers(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"pag_applied_layers": kwargs.pop("pag_applied_layers")} if "pag_applied_layers" in kwargs else {}


def _sister_of(plain: Any, layers: dict[str, Any]) -> Any:
    return pag_pipeline(type(plain)).from_pipe(plain, **layers)


def _plain(pipeline: Any) -> Any:
    # diffusers looks the class up by its name, and does not know ours.
    name = type(pipeline).__name__.replace("PAG", "")
    return type(name, (SimpleNamespace,), {})(config=pipeline.config, components=pipeline.components)
