"""Drop-in pipeline classes: names over one mixin."""

from pag.pipelines.demo import demo_pipeline
from pag.pipelines.mixin import PAGMixin
from pag.pipelines.stable_diffusion import StableDiffusionPAGPipeline

__all__ = ["PAGMixin", "StableDiffusionPAGPipeline", "demo_pipeline"]
