"""The model that a request names: found, checked before anything large is read, loaded."""

import re
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

import pag
from pag.families import DENOISERS, FAMILIES
from pag.generate.errors import UserError, mendable, nearest_first
from pag.generate.settings import EMBEDDED
from pag.pipelines import StableDiffusionPAGPipeline, demo_pipeline
from pag.pipelines.demo import DEMO_FOLDER, DEMO_SETTINGS, Settings

__all__ = [
    "choose_device",
    "choose_dtype",
    "default_size",
    "load_denoiser",
    "load_pipeline",
    "recommended",
]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""By the name that settings record."""

LOADABLE = ("StableDiffusionPipeline", "StableDiffusionPAGPipeline")
"""What `model_index.json` may say the folder is."""

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


USUAL = Settings(guidance_scale=5.0, pag_scale=3.0, layers="mid")
"""What suits most models of the family."""


def recommended(model: str) -> Settings:
    """The guidance for requests that do not say which."""
    return DEMO_SETTINGS if model == EMBEDDED else USUAL


def choose_device(name: str | None) -> str:
    """`name` if this machine has it, by default the fastest there is. Raises UserError."""
    found = [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()] + ["cpu"]
    wanted = name or found[0]
    if wanted.split(":")[0] not in found or not re.fullmatch(r"\w+(:\d+)?", wanted):
        raise UserError(f"no device {wanted!r} here. There is: {', '.join(found)}")
    if wanted.startswith("cuda:") and int(wanted[5:]) >= torch.cuda.device_count():
        raise UserError(f"no device {wanted!r} here: the last is cuda:{torch.cuda.device_count() - 1}")
    return wanted


def choose_dtype(name: str | None, device: str) -> str:
    """`name`, by default half precision on an accelerator and single on a CPU. Raises UserError."""
    wanted = name or ("float32" if device == "cpu" else "float16")
    if wanted not in DTYPES:
        raise UserError(f"unknown dtype {wanted!r}. There is: {', '.join(nearest_first(wanted, list(DTYPES)))}")
    return wanted


def load_pipeline(model: str, dtype: str, device: str) -> Any:
    """The pipeline of a hub id, a folder in diffusers' format, or the embedded model. Raises UserError."""
    if model == EMBEDDED:
        pipe: Any = demo_pipeline(dtype=DTYPES[dtype])
    else:
        _check_loadable(model)
        # Whatever is wrong with the files of a model surfaces here, as any kind of exception.
        with mendable(f"cannot load {model}", Exception):
            pipe = StableDiffusionPAGPipeline.from_pretrained(model, dtype=DTYPES[dtype])
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def load_denoiser(model: str) -> Any:
    """The network that predicts noise, without its weights (on the meta device). Raises UserError.

    Args:
        model: a folder, a hub id, or the name of a network's class in diffusers, which stands for its default
            configuration.
    """
    cls, config, what = (
        _class_of(model),
        {},
        f"{model} has no complete default configuration, so name a model that has one",
    )
    if cls is None:
        what = f"cannot build the network of {model}"
        source = str(DEMO_FOLDER) if model == EMBEDDED else model
        if not Path(source).exists() and not HUB_ID.fullmatch(source):
            near = ", ".join(nearest_first(model, _known_classes())[:3])
            raise UserError(f"no folder, hub id (owner/name) or class of a network {model!r}. Nearest classes: {near}")
        _check_name(source)
        with mendable(_cannot("read the configuration of the network of", model), Exception):
            name = _denoiser_name(source)
            config = cast(dict[str, Any], UNet2DConditionModel.load_config(source, subfolder=name))
        cls = _class_of(str(config.get("_class_name")))
    if cls is None:
        raise UserError(f"{model} holds a {config.get('_class_name')}, which this version of diffusers does not have")
    with mendable(what, Exception), torch.device("meta"):
        return cls.from_config(config)


def _class_of(name: str) -> Any:
    """The class of a denoiser by its name, diffusers' or ours, or None."""
    return getattr(diffusers, name, getattr(pag, name, None)) if name in _known_classes() else None


def _known_classes() -> list[str]:
    return [name for family in FAMILIES for name in family.models]


def _denoiser_name(source: str) -> str:
    index = cast(dict[str, Any], DiffusionPipeline.load_config(source))
    present = [name for name in DENOISERS if name in index or (Path(source) / name).is_dir()]
    if not present:
        raise ValueError(f"it has none of the components {', '.join(DENOISERS)}")
    return present[0]


def default_size(pipe: Any) -> tuple[int, int]:
    """Width and height in pixels that the model was trained for."""
    size = pipe.unet.config.sample_size
    height, width = cast(tuple[int, int], (size, size) if isinstance(size, int) else tuple(size))
    return width * pipe.vae_scale_factor, height * pipe.vae_scale_factor


def _check_loadable(model: str) -> None:
    _check_name(model)
    with mendable(_cannot("load", model), Exception):
        index = cast(dict[str, Any], DiffusionPipeline.load_config(model))
    kind = index.get("_class_name")
    if kind not in LOADABLE:
        raise UserError(f"cannot load {model}: it is a {kind}, and this command runs {' and '.join(LOADABLE)}")


def _cannot(do: str, model: str) -> str:
    return f"cannot {do} {model}" + ("" if Path(model).is_dir() else " from the Hugging Face hub")


def _check_name(model: str) -> None:
    """Refuse what is neither a folder nor a hub id here, where the message can still be plain."""
    path = Path(model)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise UserError(f"{model} is not a diffusers model folder: it has no model_index.json")
    elif path.exists():
        raise UserError(f"{model} is a file; a model is a folder in diffusers' format or a hub id like owner/name")
    elif not HUB_ID.fullmatch(model):
        raise UserError(f"no model {model!r}: it is not a folder here, and a hub id looks like owner/name")
