"""Runs on U-Nets of videos of `pag.families.other_unets`: AnimateDiff and Stable Video Diffusion."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, MotionAdapter, SparseControlNetModel
from PIL import Image
from torch import nn

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline

PATH = "mid_block.attentions.0.transformer_blocks.0.attn1"
FRAMES = 3


def _motion(cls: str, network: str = "animatediff", **components: Any) -> Any:
    return pipeline(
        cls, **{"unet": strong(NETWORKS[network].make), "vae": zoo.vae(), "scheduler": zoo.ddim(), **components}
    )


def _run(cls: str, more: dict[str, Any], components: Callable[[], dict[str, Any]] = dict, **facts: Any) -> Run:
    arguments = zoo.prompts() | {"height": 16, "width": 16} | more
    return Run(lambda: _motion(cls, **components()), lambda: arguments, PATH, denoisers=("unet",), **facts)


def _like_unet(**more: Any) -> dict[str, Any]:
    return {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, **more}


def _controlnet() -> dict[str, Any]:
    return {"controlnet": zoo.controlnet(**_like_unet(down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")))}


def _sparse() -> dict[str, Any]:
    torch.manual_seed(3)
    model = SparseControlNetModel(
        **_like_unet(
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            cross_attention_dim=zoo.TEXT,
            attention_head_dim=2,
            motion_num_attention_heads=2,
            motion_max_seq_length=8,
            conditioning_embedding_out_channels=(8, 8),
        )
    )
    with torch.no_grad():
        for parameter in (*model.controlnet_down_blocks.parameters(), *model.controlnet_mid_block.parameters()):
            nn.init.normal_(parameter, std=0.2)
    return {"controlnet": model.eval()}


def _video_diffusion() -> Any:
    pipe = pipeline(
        "StableVideoDiffusionPipeline",
        unet=strong(NETWORKS["svd"].make),
        vae=zoo.vae(),
        scheduler=EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous", sigma_max=2.0),
    )
    embeddings = torch.randn(1, 1, zoo.TEXT, generator=torch.Generator().manual_seed(5))

    def encode(_image: Any, _device: Any, count: int, guided: bool) -> torch.Tensor:
        rows = embeddings.repeat(count, 1, 1)
        return torch.cat([torch.zeros_like(rows), rows]) if guided else rows

    pipe._encode_image = encode
    return pipe


def _free_noise() -> Any:
    """Its attention over time goes through windows of the frames."""
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_max_seq_length=8,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
    )
    words: dict[str, Any] = {"tokenizer": zoo.tokenizer(), "text_encoder": zoo.text_encoder()}
    pipe = _motion("AnimateDiffPipeline", motion_adapter=adapter, **words)
    pipe.enable_free_noise(context_length=4, context_stride=2)
    return pipe


def _frames(seed: int = 7) -> list[Any]:
    torch.manual_seed(seed)
    return [Image.effect_noise((16, 16), 60).convert("RGB") for _ in range(FRAMES)]


_VIDEO: dict[str, Any] = {"video": _frames(), "strength": 1.0}
_TWO = {4: (2, 1)}
_COUNT: dict[str, Any] = {"num_frames": FRAMES}
_CONDITION: dict[str, Any] = {"conditioning_frames": _frames()}
_SVD: dict[str, Any] = {"image": zoo.picture(size=16), "height": 16, "width": 16, **_COUNT}

RUNS = {
    "AnimateDiffPipeline": _run("AnimateDiffPipeline", _COUNT),
    "AnimateDiffPipeline: no CFG": _run("AnimateDiffPipeline", _COUNT | {"guidance_scale": 1.0}),
    "AnimateDiffPipeline: two videos": _run("AnimateDiffPipeline", zoo.prompts(2) | _COUNT, groups=_TWO),
    "AnimateDiffPipeline: FreeNoise": Run(
        _free_noise,
        lambda: {"prompt": "a cat", "negative_prompt": "b", "num_frames": 5, "height": 16, "width": 16},
        PATH,
        denoisers=("unet",),
    ),
    "AnimateDiffSDXLPipeline": _run(
        "AnimateDiffSDXLPipeline", zoo.pooled() | _COUNT, lambda: {"network": "animatediff_xl"}
    ),
    "AnimateDiffControlNetPipeline": _run("AnimateDiffControlNetPipeline", _COUNT | _CONDITION, _controlnet),
    "AnimateDiffSparseControlNetPipeline": _run(
        "AnimateDiffSparseControlNetPipeline",
        _COUNT | {"conditioning_frames": _frames()[:1], "controlnet_frame_indices": [1]},
        _sparse,
    ),
    "AnimateDiffVideoToVideoPipeline": _run("AnimateDiffVideoToVideoPipeline", _VIDEO),
    "AnimateDiffVideoToVideoControlNetPipeline": _run(
        "AnimateDiffVideoToVideoControlNetPipeline", _VIDEO | _CONDITION, _controlnet
    ),
    "StableVideoDiffusionPipeline": Run(
        _video_diffusion, lambda: _SVD, PATH, denoisers=("unet",), output=lambda output: output
    ),
    "StableVideoDiffusionPipeline: two videos": Run(
        _video_diffusion,
        lambda: _SVD | {"num_videos_per_prompt": 2},
        PATH,
        denoisers=("unet",),
        groups=_TWO,
        output=lambda output: output,
    ),
    "StableVideoDiffusionPipeline: no CFG": Run(
        _video_diffusion,
        lambda: _SVD | {"max_guidance_scale": 1.0},
        PATH,
        denoisers=("unet",),
        output=lambda output: output,
    ),
}
