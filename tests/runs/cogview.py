"""Runs on networks of `pag.families.cogview`."""

from functools import partial
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, FlowMatchEulerDiscreteScheduler

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline
from tests.runs.single_stream import picture, vae

TEXT = 5
PATH, IMAGE = "transformer_blocks.1.attn1", slice(TEXT, TEXT + 16)


def _make(name: str, network: str, scheduler: Any = None, levels: int = 0) -> Any:
    return pipeline(
        name,
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.25),
        vae=vae(levels),
        transformer=strong(NETWORKS[network].make),
    )


def _arguments(**given: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeddings = {name: torch.randn(1, TEXT, 16, generator=generator) for name in names}
    return {"height": 8, "width": 8, "guidance_scale": 5.0, **embeddings, **given}


def _larger(**given: Any) -> dict[str, Any]:
    return _arguments(**({"height": 16, "width": 16} | given))


def _fills_cache(call: dict[str, Any]) -> bool:
    return call["kv_caches"][0].mode == "write"


def _edit() -> dict[str, Any]:
    """An image of 2×2 tokens is a condition: the prompt's rows see it, the others do not."""
    ids = {"prior_token_image_ids": [torch.arange(4)], "source_image_grid_thw": [torch.tensor([[1, 2, 2]])]}
    return _arguments(**_PRIOR, **ids, image=[picture(4)])


def _image_of_glm(queries: int, keys: int) -> tuple[slice, int]:
    return IMAGE, keys - queries


def _run(make: Any, arguments: Any = _arguments, **given: Any) -> Run:
    return Run(make, arguments, PATH, IMAGE, **given)


_TWO_CALLS: dict[str, Any] = {"calls": ("cond", "uncond")}
_PRIOR = {"prior_token_ids": torch.arange(16)[None] % 8}

RUNS = {
    "CogView3PlusPipeline": _run(partial(_make, "CogView3PlusPipeline", "cogview3", CogVideoXDDIMScheduler())),
    "CogView3PlusPipeline: no CFG": _run(
        partial(_make, "CogView3PlusPipeline", "cogview3", CogVideoXDPMScheduler()),
        lambda: _arguments(guidance_scale=1.0),
    ),
    "CogView4Pipeline": _run(partial(_make, "CogView4Pipeline", "cogview4", levels=1), _larger, **_TWO_CALLS),
    "CogView4Pipeline: no CFG": _run(
        partial(_make, "CogView4Pipeline", "cogview4", levels=1), lambda: _larger(guidance_scale=1.0)
    ),
    "CogView4ControlPipeline": _run(
        partial(_make, "CogView4ControlPipeline", "cogview4 control", levels=1),
        lambda: _larger(control_image=picture(16)),
        **_TWO_CALLS,
    ),
    "GlmImagePipeline": _run(
        partial(_make, "GlmImagePipeline", "glm-image"), lambda: _arguments(**_PRIOR), **_TWO_CALLS
    ),
    "GlmImagePipeline: edit": Run(
        partial(_make, "GlmImagePipeline", "glm-image"), _edit, PATH, _image_of_glm, prepares=_fills_cache, **_TWO_CALLS
    ),
}
