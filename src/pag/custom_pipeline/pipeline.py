"""For ``DiffusionPipeline.from_pretrained(model, custom_pipeline=<this folder>)``: diffusers loads this file."""

from pag.pipelines.stable_diffusion import StableDiffusionPAGPipeline

__all__ = ["StableDiffusionPAGPipeline"]
