"""Text-to-image with Stable Diffusion 1.x and 2.x."""

from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from pag.pipelines.mixin import PAGMixin


class StableDiffusionPAGPipeline(PAGMixin, StableDiffusionPipeline):
    """Text-to-image with Stable Diffusion and Perturbed-Attention Guidance (PAG, arXiv 2403.17377).

    Takes all that diffusers' `StableDiffusionPipeline` takes, in its constructor, its loaders and its call, and the
    PAG settings on top. Each step is guided by ``u + g·(c − u) + s·(c − ĉ)``, or by ``c + s·(c − ĉ)`` when
    classifier-free guidance is off (``guidance_scale`` of 1 or less). With an empty prompt that is unconditional
    sampling.
    """

    _pag_example = """
        >>> import torch
        >>> from pag import StableDiffusionPAGPipeline

        >>> pipe = StableDiffusionPAGPipeline.from_pretrained(
        ...     "stable-diffusion-v1-5/stable-diffusion-v1-5", dtype=torch.float16
        ... ).to("cuda")
        >>> image = pipe("a corgi", guidance_scale=0.0, pag_scale=5.0, pag_applied_layers_index=["m0"]).images[0]
    """
