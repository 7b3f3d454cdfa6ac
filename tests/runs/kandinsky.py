"""Runs on networks of `pag.families.kandinsky`."""

from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, Kandinsky6SRVAE

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.kandinsky import PATHS_SR, to_itself
from tests.runs._run import Run, pipeline
from tests.runs.hunyuan_video import vae

PATH, CALLS = "visual_transformer_blocks.1.self_attention", ("cond", "uncond")


def _image_vae() -> AutoencoderKL:
    torch.manual_seed(2)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8,) * 4,
    }
    return AutoencoderKL(**blocks, norm_num_groups=4, latent_channels=4).eval()


def _pipe(name: str, network: str = "kandinsky5", **components: Any) -> Any:
    pipe = pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS[network].make),
        **components,
    )
    pipe.resolutions = [(32, 32)]
    return pipe


def _embeddings() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"height": 32, "width": 32}
    for prefix, length in (("", 5), ("negative_", 4)):
        given[f"{prefix}prompt_embeds_qwen"] = torch.randn(1, length, 16, generator=generator)
        given[f"{prefix}prompt_embeds_clip"] = torch.randn(1, 8, generator=generator)
        given[f"{prefix}prompt_cu_seqlens"] = torch.tensor([0, length])
    return given


def _picture() -> dict[str, Any]:
    return {"image": zoo.picture(size=32)}


def _embeddings6() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 9}
    for prefix, length in (("", 5), ("negative_", 4)):
        given[f"{prefix}prompt_embeds"] = torch.randn(1, length, 16, generator=generator)
        given[f"{prefix}pooled_prompt_embeds"] = torch.randn(1, 8, generator=generator)
    return given


def _pipe6() -> Any:
    pipe = pipeline(
        "Kandinsky6TI2VAPipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS["kandinsky6"].make),
        vae=vae(),
    )
    pipe.audio_vae = pipe.vocoder = object()  # for the waveform, which nobody asks for
    return pipe


def _super_resolution() -> Any:
    torch.manual_seed(2)
    small = Kandinsky6SRVAE(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 5,
        decoder_block_out_channels=(8,) * 5,
        layers_per_block=1,
    )
    return pipeline(
        "Kandinsky6SRPipeline",
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS["kandinsky6_sr"].make),
        vae=small.eval(),
    )


PATH6 = "visual_transformer_blocks.1.video_dec_block.self_attention"

RUNS = {
    "Kandinsky5T2VPipeline": Run(
        lambda: _pipe("Kandinsky5T2VPipeline"), lambda: _embeddings() | {"num_frames": 9}, PATH, calls=CALLS
    ),
    "Kandinsky5T2VPipeline: no CFG": Run(
        lambda: _pipe("Kandinsky5T2VPipeline"),
        lambda: _embeddings() | {"num_frames": 9, "guidance_scale": 1.0},
        PATH,
    ),
    "Kandinsky5T2VPipeline: sparse attention": Run(
        lambda: _pipe("Kandinsky5T2VPipeline", "kandinsky5_sparse"),
        lambda: _embeddings() | {"num_frames": 9, "height": 128, "width": 128},
        PATH,
        calls=CALLS,
        reference=to_itself,
    ),
    "Kandinsky5I2VPipeline": Run(
        lambda: _pipe("Kandinsky5I2VPipeline", "kandinsky5_given_frames", vae=vae()),
        lambda: _embeddings() | _picture() | {"num_frames": 25},
        PATH,
        calls=CALLS,
    ),
    "Kandinsky5T2IPipeline": Run(lambda: _pipe("Kandinsky5T2IPipeline"), _embeddings, PATH, calls=CALLS),
    "Kandinsky5I2IPipeline": Run(
        lambda: _pipe("Kandinsky5I2IPipeline", "kandinsky5_given_frames", vae=_image_vae()),
        lambda: _embeddings() | _picture(),
        PATH,
        calls=CALLS,
    ),
    "Kandinsky6TI2VAPipeline": Run(_pipe6, _embeddings6, PATH6, calls=CALLS, predictions=2),
    "Kandinsky6TI2VAPipeline: the audio": Run(
        _pipe6,
        lambda: _embeddings6() | _picture(),
        PATH6,
        calls=CALLS,
        predictions=2,
        output=lambda output: output[1],
    ),
    "Kandinsky6TI2VAPipeline: silent, no CFG": Run(
        _pipe6, lambda: _embeddings6() | _picture() | {"guidance_scale": 1.0, "sample_audio": False}, PATH6
    ),
    "Kandinsky6SRPipeline": Run(
        _super_resolution,
        lambda: {"video": zoo.picture(5, size=64)[None], "resolution_scale": 2},
        PATHS_SR[1],
        output_type="pt",
        reference=to_itself,
    ),
}
