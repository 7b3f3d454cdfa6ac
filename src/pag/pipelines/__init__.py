"""Drop-in pipeline classes: names over one mixin."""

from pag.pipelines._names import pipeline_class, pipeline_names
from pag.pipelines._sister import pag_pipeline
from pag.pipelines.demo import demo_pipeline
from pag.pipelines.mixin import PAGMixin
from pag.pipelines.stable_diffusion import StableDiffusionPAGPipeline

__all__ = [
    "PAGMixin",
    "StableDiffusionPAGPipeline",
    "demo_pipeline",
    "pag_pipeline",
    "pipeline_class",
    "pipeline_names",
]
