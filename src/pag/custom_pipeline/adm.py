"""For ``DiffusionPipeline.from_pretrained(model, custom_pipeline=<this file>)``: diffusers loads it."""

from pag.adm.pipeline import ADMPipeline

__all__ = ["ADMPipeline"]
