"""Runs on networks of `pag.families.hunyuan_video`."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.image_processor import VaeImageProcessor

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.hunyuan_video import IMAGE, TEXT
from tests.runs._run import Run, pipeline

PATH, CALLS = "transformer_blocks.1.attn", ("cond", "uncond")


def vae() -> AutoencoderKLHunyuanVideo:
    """HunyuanVideo's autoencoder: 4 frames to 1 (the first stays alone), 8×8 pixels to one latent."""
    torch.manual_seed(2)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),  # pyright: ignore
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def embeddings(prefix: str, seed: int) -> dict[str, Any]:
    """Embeddings of a prompt with padding at its end."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}prompt_embeds": torch.randn(1, TEXT, 16, generator=generator),
        f"{prefix}pooled_prompt_embeds": torch.randn(1, 8, generator=generator),
        f"{prefix}prompt_attention_mask": (torch.arange(TEXT) < seed - 2)[None].float(),
    }


def _arguments() -> dict[str, Any]:
    return embeddings("", 5) | {"height": 32, "width": 32, "num_frames": 9}


def _true_cfg() -> dict[str, Any]:
    return _arguments() | embeddings("negative_", 6) | {"true_cfg_scale": 4.0}


def _image_to_video() -> dict[str, Any]:
    return _true_cfg() | {"image": zoo.picture(size=32)}


def _framepack_arguments() -> dict[str, Any]:
    """Two sections: the second one has a history."""
    return _image_to_video() | {"num_frames": 10, "latent_window_size": 3}


def _arguments15() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    given: dict[str, Any] = {"num_frames": 9}
    for prefix, length in (("", 3), ("negative_", 4)):
        for suffix, tokens, width in (("", TEXT, 16), ("_2", 4, 8)):
            given[f"{prefix}prompt_embeds{suffix}"] = torch.randn(1, tokens, width, generator=generator)
            given[f"{prefix}prompt_embeds_mask{suffix}"] = (torch.arange(tokens) < length)[None].float()
    return given


def _picture15() -> dict[str, Any]:
    return {"image": VaeImageProcessor().numpy_to_pil(zoo.picture(size=32).permute(0, 2, 3, 1).numpy())[0]}


def _pipe(name: str, network: str, **components: Any) -> Any:
    return pipeline(
        name,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=strong(NETWORKS[network].make),
        **components,
    )


def _hunyuan_video() -> Any:
    return _pipe("HunyuanVideoPipeline", "hunyuan_video")


def _framepack() -> Any:
    pipe = _pipe("HunyuanVideoFramepackPipeline", "framepack", vae=vae())
    pipe.encode_image = lambda image, device: torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(8))  # pyright: ignore
    return pipe


def _hunyuan_video15(name: str, **guider: Any) -> Any:
    torch.manual_seed(2)
    vae15 = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8, 8),  # pyright: ignore
        layers_per_block=1,
    ).eval()
    pipe = _pipe(name, "hunyuan_video_15", vae=vae15, guider=ClassifierFreeGuidance(**guider))
    pipe.vision_num_semantic_tokens = 3
    pipe.encode_image = lambda **given: torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(8))  # pyright: ignore
    return pipe


RUNS = {
    "HunyuanVideoPipeline": Run(_hunyuan_video, _arguments, PATH, IMAGE),
    "HunyuanVideoPipeline: true CFG": Run(_hunyuan_video, _true_cfg, PATH, IMAGE, calls=CALLS),
    "HunyuanVideoImageToVideoPipeline": Run(
        lambda: _pipe("HunyuanVideoImageToVideoPipeline", "hunyuan_video_latent_concat", vae=vae()),
        _image_to_video,
        PATH,
        IMAGE,
        calls=CALLS,
    ),
    "HunyuanVideoImageToVideoPipeline: first frame replaced": Run(
        lambda: _pipe("HunyuanVideoImageToVideoPipeline", "hunyuan_video_token_replace", vae=vae()),
        _image_to_video,
        PATH,
        IMAGE,
        calls=CALLS,
    ),
    "HunyuanSkyreelsImageToVideoPipeline": Run(
        lambda: _pipe("HunyuanSkyreelsImageToVideoPipeline", "hunyuan_skyreels", vae=vae()),
        _image_to_video,
        PATH,
        IMAGE,
        calls=CALLS,
    ),
    "HunyuanVideoFramepackPipeline": Run(
        _framepack,
        _framepack_arguments,
        PATH,
        slice(0, 25),
        calls=CALLS,
        output=lambda output: output[0][-1],
    ),
    "HunyuanVideo15Pipeline": Run(
        lambda: _hunyuan_video15("HunyuanVideo15Pipeline", guidance_scale=4.0),
        lambda: _arguments15() | {"height": 32, "width": 32},
        PATH,
        IMAGE,
        calls=CALLS,
    ),
    "HunyuanVideo15Pipeline: rescaled, by the original formulation": Run(
        lambda: _hunyuan_video15(
            "HunyuanVideo15Pipeline", guidance_scale=3.0, guidance_rescale=0.7, use_original_formulation=True
        ),
        lambda: _arguments15() | {"height": 32, "width": 32},
        PATH,
        IMAGE,
        calls=CALLS,
        g=4.0,
        norm=True,
    ),
    "HunyuanVideo15Pipeline: no CFG": Run(
        lambda: _hunyuan_video15("HunyuanVideo15Pipeline", guidance_scale=1.0),
        lambda: _arguments15() | {"height": 32, "width": 32},
        PATH,
        IMAGE,
    ),
    "HunyuanVideo15Pipeline: CFG in the second half": Run(
        lambda: _hunyuan_video15("HunyuanVideo15Pipeline", guidance_scale=4.0, start=0.5),
        lambda: _arguments15() | {"height": 32, "width": 32},
        PATH,
        IMAGE,
        calls=("cond", *CALLS),
    ),
    "HunyuanVideo15ImageToVideoPipeline": Run(
        lambda: _hunyuan_video15("HunyuanVideo15ImageToVideoPipeline", guidance_scale=4.0),
        lambda: _arguments15() | _picture15(),
        PATH,
        IMAGE,
        calls=CALLS,
    ),
}
