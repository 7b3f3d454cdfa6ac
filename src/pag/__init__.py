"""Perturbed-Attention Guidance for diffusers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pag._guide import Guide, guide, sites
    from pag.costs import Cost, LayerCost, cost, layer_costs
    from pag.guidance import Guidance
    from pag.layers import Site
    from pag.pipelines import StableDiffusionPAGPipeline, demo_pipeline

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "Guidance",
    "Guide",
    "LayerCost",
    "Site",
    "StableDiffusionPAGPipeline",
    "cost",
    "demo_pipeline",
    "guide",
    "layer_costs",
    "sites",
]

# torch and diffusers take seconds to load, which `pag --help` must not wait for. No module may bear a public name:
# importing it would put the module in the place of the object.
_HOMES = {
    "Guide": "pag._guide",
    "guide": "pag._guide",
    "sites": "pag._guide",
    "Guidance": "pag.guidance",
    "Site": "pag.layers",
    "Cost": "pag.costs",
    "LayerCost": "pag.costs",
    "cost": "pag.costs",
    "layer_costs": "pag.costs",
    "StableDiffusionPAGPipeline": "pag.pipelines",
    "demo_pipeline": "pag.pipelines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pag' has no attribute {name!r}. There is: {', '.join(__all__)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
