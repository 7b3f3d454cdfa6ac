"""Perturbed-Attention Guidance for diffusers."""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pag._guide import Guide, guide, sites
    from pag._guider import PerturbedAttentionGuider
    from pag.adm.classifier import ADMClassifier
    from pag.adm.pipeline import ADMPipeline
    from pag.adm.unet import ADMUNet
    from pag.costs import Cost, LayerCost, cost, layer_costs
    from pag.guidance import Guidance
    from pag.layers import Site
    from pag.peaks import Memory, memory
    from pag.pipelines import StableDiffusionPAGPipeline, demo_pipeline, pag_pipeline
    from pag.pipelines._auto import (
        AutoPAGPipelineForImage2Image,
        AutoPAGPipelineForInpainting,
        AutoPAGPipelineForText2Image,
    )
    from pag.reuse import Reuse

__version__ = "0.1.0"

__all__ = [
    "ADMClassifier",
    "ADMPipeline",
    "ADMUNet",
    "AutoPAGPipelineForImage2Image",
    "AutoPAGPipelineForInpainting",
    "AutoPAGPipelineForText2Image",
    "Cost",
    "Guidance",
    "Guide",
    "LayerCost",
    "Memory",
    "PerturbedAttentionGuider",
    "Reuse",
    "Site",
    "StableDiffusionPAGPipeline",
    "cost",
    "demo_pipeline",
    "guide",
    "layer_costs",
    "memory",
    "pag_pipeline",
    "sites",
]

# torch and diffusers take seconds to load, which `pag --help` must not wait for. No module may bear a public name:
# importing it would put the module in the place of the object.
_HOMES = {
    "Guide": "pag._guide",
    "guide": "pag._guide",
    "sites": "pag._guide",
    "PerturbedAttentionGuider": "pag._guider",
    "Guidance": "pag.guidance",
    "Site": "pag.layers",
    "Cost": "pag.costs",
    "LayerCost": "pag.costs",
    "cost": "pag.costs",
    "layer_costs": "pag.costs",
    "Memory": "pag.peaks",
    "memory": "pag.peaks",
    "AutoPAGPipelineForImage2Image": "pag.pipelines._auto",
    "AutoPAGPipelineForInpainting": "pag.pipelines._auto",
    "AutoPAGPipelineForText2Image": "pag.pipelines._auto",
    "StableDiffusionPAGPipeline": "pag.pipelines",
    "pag_pipeline": "pag.pipelines",
    "demo_pipeline": "pag.pipelines",
    "Reuse": "pag.reuse",
    "ADMClassifier": "pag.adm.classifier",
    "ADMPipeline": "pag.adm.pipeline",
    "ADMUNet": "pag.adm.unet",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "families":  # which users add to
        return import_module("pag.families")
    if name.endswith("Pipeline"):  # one for each class of diffusers, made when it is asked for
        return import_module("pag.pipelines").pipeline_class(name)
    nearest = ", ".join(get_close_matches(name, __all__) or __all__)
    raise AttributeError(f"module 'pag' has no attribute {name!r}. There is: {nearest}.")


def __dir__() -> list[str]:
    return [*__all__, "__version__", *import_module("pag.pipelines").pipeline_names()]
