"""Runs of LTX-2 on networks of `pag.families.ltx`."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2VideoTransformer3DModel,
    LTXEulerAncestralRFScheduler,
)
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors
from diffusers.pipelines.ltx2.dfr_layout import LTX2DFREpilogueTile
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_hdr_lora import LTX2HDRReferenceCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from torch import Tensor

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline
from tests.runs.wan import image, video

TEXT = 5
PATH = "transformer_blocks.1.attn1"


def vae() -> AutoencoderKLLTX2Video:
    """8 frames to 1 (the first stays alone), 32×32 pixels to one latent."""
    torch.manual_seed(2)
    blocks: dict[str, Any] = {
        "block_out_channels": (8,) * 4,
        "decoder_block_out_channels": (8,) * 3,
        "layers_per_block": (1,) * 5,
        "decoder_layers_per_block": (1,) * 4,
    }
    return AutoencoderKLLTX2Video(
        latent_channels=4, spatial_compression_ratio=32, temporal_compression_ratio=8, **blocks
    ).eval()


def audio_vae() -> AutoencoderKLLTX2Audio:
    """The autoencoder of the sound."""
    torch.manual_seed(3)
    return AutoencoderKLLTX2Audio(
        base_channels=4, num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    ).eval()


def _connectors() -> LTX2TextConnectors:
    torch.manual_seed(4)
    sizes: dict[str, Any] = {}
    for name in ("video", "audio"):
        sizes |= {
            f"{name}_connector_num_attention_heads": 2,
            f"{name}_connector_attention_head_dim": 8,
            f"{name}_connector_num_layers": 1,
            f"{name}_connector_num_learnable_registers": None,
        }
    return LTX2TextConnectors(caption_channels=16, text_proj_in_factor=1, **sizes).eval()


def _ltx2(name: str, **components: Any) -> Any:
    given = {
        "vae": vae(),
        "audio_vae": audio_vae(),
        "connectors": _connectors(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "transformer": strong(NETWORKS["ltx2"].make),
    }
    return pipeline(name, **(given | components))


def _text(**arguments: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    return {
        "prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        "negative_prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        "prompt_attention_mask": torch.tensor([[0, 0, 1, 1, 1]]),
        "negative_prompt_attention_mask": torch.ones(1, TEXT, dtype=torch.long),
        "height": 64,
        "width": 64,
        "num_frames": 17,
        "spatio_temporal_guidance_blocks": [2],
        "use_cross_timestep": False,
    } | arguments


def _alone(**arguments: Any) -> dict[str, Any]:
    """No guidance but ours."""
    off = {"guidance_scale": 1.0, "audio_guidance_scale": 1.0, "stg_scale": 0.0, "audio_stg_scale": 0.0}
    return _text(**off, modality_scale=1.0, audio_modality_scale=1.0) | arguments


def _high_range(**arguments: Any) -> dict[str, Any]:
    scales = {"guidance_scale": 3.0, "stg_scale": 1.0, "modality_scale": 3.0, "guidance_rescale": 0.7}
    reference = LTX2HDRReferenceCondition(frames=video(9, size=64))
    return _text(reference_conditions=reference, **scales) | arguments


def _marking() -> Any:
    """A transformer that marks key frames."""
    config: Any = NETWORKS["ltx2"].model().config
    return LTX2VideoTransformer3DModel.from_config(config, use_keyframes_abs_pos_embedding=True)  # pyright: ignore


def _dense() -> Any:
    return _ltx2("LTX2DFRPipeline", transformer=strong(_marking))


def _refining() -> Any:
    torch.manual_seed(6)
    upsampler = LTX2LatentUpsamplerModel(4, 32, 1, spatial_upsample=False, temporal_upsample=True).eval()
    return _ltx2(
        "LTX2DFRTemporalRefinePipeline",
        transformer=strong(_marking),
        scheduler=LTXEulerAncestralRFScheduler(eta=0.5),
        temporal_latent_upsampler=upsampler,
    )


def _refine() -> dict[str, Any]:
    """Three latent frames, of which the two later ones are key frames, become five."""
    generator = torch.Generator().manual_seed(7)
    return _dense_text(
        latents=torch.randn(1, 4, 3, 2, 2, generator=generator),
        keyframes_latents=torch.randn(1, 4, 2, 2, 2, generator=generator),
        keyframe_positions=[8, 16],
        audio_latents=torch.randn(1, 2, 18, 2, generator=generator),
    )


def _dense_text(**arguments: Any) -> dict[str, Any]:
    names = ("prompt_embeds", "prompt_attention_mask", "height", "width", "num_frames", "use_cross_timestep")
    given = {name: value for name, value in _text().items() if name in names}
    return given | {"sigmas": [1.0, 0.6]} | arguments


def _tiles() -> list[LTX2DFREpilogueTile]:
    """Two halves of four latent frames that share one column of two."""
    everything, columns = slice(0, 4), (slice(0, 1), slice(1, 2))
    return [LTX2DFREpilogueTile(everything, slice(0, 2), column, torch.ones(4, 2, 1)) for column in columns]


def _both(output: Any) -> Tensor:
    """Video and sound."""
    return torch.cat([output[0].flatten(), output[1].flatten()])


def _run(name: str, arguments: Any = _text, **facts: Any) -> Run:
    asides = ("spatio_temporal_guidance_blocks", "isolate_modalities")
    known: dict[str, Any] = {"predictions": 2, "aside": asides, "output": _both, "norm": True, "g": (3.0, 7.0)}
    known["tolerance"] = 2e-5  # δ is small beside so much other guidance
    return Run(lambda: _ltx2(name), arguments, PATH, **(known | facts))


RUNS = {
    "LTX2Pipeline": _run("LTX2Pipeline"),
    "LTX2Pipeline: no CFG": _run("LTX2Pipeline", _alone),
    "LTX2Pipeline: CFG for the sound alone": _run(
        "LTX2Pipeline", lambda: _text(guidance_scale=1.0, stg_scale=0.0, modality_scale=1.0), g=(1.0, 7.0)
    ),
    "LTX2Pipeline: more guidance, but no CFG": _run(
        "LTX2Pipeline", lambda: _text(guidance_scale=1.0, audio_guidance_scale=1.0), g=(1.0, 1.0)
    ),
    "LTX2ImageToVideoPipeline": _run("LTX2ImageToVideoPipeline", lambda: _text(image=image(size=64), image_crf=0)),
    "LTX2ImageToVideoPipeline: no CFG": _run(
        "LTX2ImageToVideoPipeline", lambda: _alone(image=image(size=64), image_crf=0)
    ),
    "LTX2ConditionPipeline": _run(
        "LTX2ConditionPipeline", lambda: _text(conditions=LTX2VideoCondition(frames=image(size=64), crf=0))
    ),
    "LTX2ConditionPipeline: a later frame": _run(
        "LTX2ConditionPipeline", lambda: _text(conditions=LTX2VideoCondition(frames=image(size=64), crf=0, index=1))
    ),
    "LTX2InContextPipeline": _run(
        "LTX2InContextPipeline",
        lambda: _text(
            reference_conditions=LTX2ReferenceCondition(frames=video(9, size=64)), conditioning_attention_strength=0.5
        ),
    ),
    "LTX2HDRPipeline": _run("LTX2HDRPipeline", lambda: _high_range(), output=lambda output: output[0], g=(3.0, 1.0)),
    "LTX2HDRPipeline: no CFG": _run(
        "LTX2HDRPipeline", lambda: _high_range(guidance_scale=1.0), output=lambda output: output[0], g=(1.0, 1.0)
    ),
    "LTX2DFRPipeline": Run(_dense, _dense_text, PATH, predictions=2, output=_both, steps=None),
    "LTX2DFRPipeline: tiles": Run(
        _dense, lambda: _dense_text(video_tiles=_tiles()), PATH, predictions=2, output=_both, steps=None
    ),
    "LTX2DFRTemporalRefinePipeline": Run(
        _refining, _refine, PATH, predictions=2, output=lambda output: output[0], steps=None
    ),
}
