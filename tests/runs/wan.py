"""Runs on networks of `pag.families.wan`."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    AnyFlowFARTransformer3DModel,
    AutoencoderKLWan,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import nn

from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs._run import Run, pipeline


def vae() -> AutoencoderKLWan:
    """Wan's autoencoder: 4 frames to 1 (the first stays alone), 8×8 pixels to one latent."""
    torch.manual_seed(2)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def _unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def _forcing(task: str = "", **components: Any) -> Any:
    return _pipe(f"SkyReelsV2DiffusionForcing{task}Pipeline", "skyreels", scheduler=_unipc(), **components)


def _pipe(name: str, network: str, **components: Any) -> Any:
    given = {
        "vae": vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        "transformer": strong(NETWORKS[network].make),
    }
    return pipeline(name, **(given | components))


def _two(name: str, network: str) -> Any:
    """A transformer for much noise, one for little, as in Wan 2.2."""
    other = strong(NETWORKS[network].make)
    for parameter in other.parameters():
        parameter.mul_(0.9)
    return _pipe(name, network, transformer_2=other, boundary_ratio=0.9)


def _seeing(name: str, network: str, **components: Any) -> Any:
    """A pipeline with something in the place of its image encoder."""
    pipe = _pipe(name, network, **components)
    pipe.encode_image = lambda image, device: _clip(len(image) if isinstance(image, list) else 1)  # pyright: ignore
    return pipe


def _clip(images: int) -> torch.Tensor:
    return torch.randn(images, 3, 8, generator=torch.Generator().manual_seed(7))


def _knowing_the_rate() -> Any:
    """With a timestep per frame, diffusers' class takes the frame rate of one row only."""
    config: Any = NETWORKS["skyreels"].model().config
    return strong(lambda: SkyReelsV2Transformer3DModel.from_config(config, inject_sample_info=True))  # pyright: ignore


def _far() -> Any:
    """Three chunks, of 1, 2 and 1 latent frames; the first is kept in coarser patches at the end."""
    config: Any = NETWORKS["anyflow"].model().config
    more: Any = {"chunk_partition": (1, 2, 1), "compressed_patch_size": (1, 4, 4), "full_chunk_limit": 2}
    transformer = strong(lambda: AnyFlowFARTransformer3DModel.from_config(config, **more))  # pyright: ignore
    return _pipe("AnyFlowFARPipeline", "anyflow", transformer=transformer, scheduler=FlowMapEulerDiscreteScheduler())


def _fills(call: dict[str, Any]) -> bool:
    return call["kv_cache_flag"]["is_cache_step"]


@contextmanager
def _values(model: nn.Module, path: str) -> Generator[None]:
    """Each token attends to itself alone: the values are the answers."""
    attention: Any = model.get_submodule(path)
    own = attention.processor
    attention.processor = lambda attn, hidden_states, **_: attn.to_out[0](attn.to_v(hidden_states))  # pyright: ignore
    try:
        yield
    finally:
        attention.processor = own


def _text(tokens: int = 5, **arguments: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeddings = {name: torch.randn(1, tokens, 16, generator=generator) for name in names}
    return embeddings | {"height": 32, "width": 32, "num_frames": 9} | arguments


def image(seed: int = 8, size: int = 32) -> Image.Image:
    pixels = torch.randint(0, 255, (size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def video(frames: int, seed: int = 9, size: int = 32) -> list[Image.Image]:
    return [image(seed + index, size) for index in range(frames)]


def _from_image(**arguments: Any) -> dict[str, Any]:
    return _text(512, image=image()) | arguments


def _forced(**arguments: Any) -> dict[str, Any]:
    """For diffusion forcing: each frame is at a noise level of its own."""
    return _text(prompt=None, base_num_frames=97) | arguments


def _animate(**arguments: Any) -> dict[str, Any]:
    given = _text(512, image=image(), pose_video=video(9), face_video=video(9, 20, size=16), segment_frame_length=5)
    del given["num_frames"]
    return given | {"guidance_scale": 4.0} | arguments


PATH = "blocks.1.attn1"
TWO = ("cond", "uncond")
BOTH = ("transformer", "transformer_2")

RUNS = {
    "WanPipeline": Run(lambda: _pipe("WanPipeline", "wan"), _text, PATH, calls=TWO),
    "WanPipeline: no CFG": Run(lambda: _pipe("WanPipeline", "wan"), lambda: _text(guidance_scale=1.0), PATH),
    "WanPipeline: two transformers": Run(
        lambda: _two("WanPipeline", "wan"), lambda: _text(guidance_scale_2=3.0), PATH, calls=TWO, denoisers=BOTH
    ),
    "WanPipeline: two transformers, no CFG": Run(
        lambda: _two("WanPipeline", "wan"), lambda: _text(guidance_scale=1.0), PATH, denoisers=BOTH
    ),
    "WanPipeline: a timestep per token": Run(
        lambda: _pipe("WanPipeline", "wan", expand_timesteps=True), _text, PATH, calls=TWO
    ),
    "WanPipeline: UniPC": Run(
        lambda: _pipe(
            "WanPipeline",
            "wan",
            scheduler=_unipc(),
        ),
        _text,
        PATH,
        calls=TWO,
        steps=3,
    ),
    "WanImageToVideoPipeline": Run(
        lambda: _seeing("WanImageToVideoPipeline", "wan from an image"), _from_image, PATH, calls=TWO
    ),
    "WanImageToVideoPipeline: no CFG": Run(
        lambda: _seeing("WanImageToVideoPipeline", "wan from an image"), lambda: _from_image(guidance_scale=1.0), PATH
    ),
    "WanImageToVideoPipeline: first and last frame": Run(
        lambda: _seeing("WanImageToVideoPipeline", "wan between two images"),
        lambda: _from_image(last_image=image(3)),
        PATH,
        calls=TWO,
    ),
    "WanImageToVideoPipeline: a timestep per token": Run(
        lambda: _pipe("WanImageToVideoPipeline", "wan", expand_timesteps=True),
        lambda: _text(image=image()),
        PATH,
        calls=TWO,
    ),
    "WanVideoToVideoPipeline": Run(
        lambda: _pipe("WanVideoToVideoPipeline", "wan"),
        lambda: {name: value for name, value in _text(video=video(9)).items() if name != "num_frames"},
        PATH,
        calls=TWO,
        steps=4,
    ),
    "WanVACEPipeline": Run(
        lambda: _pipe("WanVACEPipeline", "wan vace"),
        lambda: _text(video=video(9), mask=video(9, 30), reference_images=[image(40)]),
        PATH,
        calls=TWO,
    ),
    "WanVACEPipeline: in the control branch": Run(
        lambda: _pipe("WanVACEPipeline", "wan vace"), _text, "vace_blocks.1.attn1", calls=TWO
    ),
    "WanAnimatePipeline": Run(lambda: _seeing("WanAnimatePipeline", "wan animate"), _animate, PATH, calls=TWO),
    "WanAnimatePipeline: no CFG": Run(
        lambda: _seeing("WanAnimatePipeline", "wan animate"), lambda: _animate(guidance_scale=1.0), PATH
    ),
    "LucyEditPipeline": Run(
        lambda: _pipe("LucyEditPipeline", "lucy edit"), lambda: _text(video=video(9)), PATH, calls=TWO
    ),
    "ChronoEditPipeline": Run(
        lambda: _seeing("ChronoEditPipeline", "chronoedit"), lambda: _from_image(num_frames=5), PATH, calls=TWO
    ),
    "ChronoEditPipeline: temporal reasoning": Run(
        lambda: _seeing(
            "ChronoEditPipeline",
            "chronoedit",
            scheduler=_unipc(),
        ),
        lambda: _from_image(num_frames=9, enable_temporal_reasoning=True, num_temporal_reasoning_steps=2),
        PATH,
        calls=TWO,
        steps=3,
    ),
    "SkyReelsV2Pipeline": Run(lambda: _pipe("SkyReelsV2Pipeline", "skyreels"), _text, PATH, calls=TWO),
    "SkyReelsV2ImageToVideoPipeline": Run(
        lambda: _seeing("SkyReelsV2ImageToVideoPipeline", "skyreels from an image"), _from_image, PATH, calls=TWO
    ),
    "SkyReelsV2DiffusionForcingPipeline": Run(lambda: _forcing(), _forced, PATH, calls=TWO),
    "SkyReelsV2DiffusionForcingPipeline: knows the frame rate": Run(
        lambda: _forcing(transformer=_knowing_the_rate()),
        _forced,
        PATH,
        calls=TWO,
    ),
    "SkyReelsV2DiffusionForcingPipeline: blocks of frames one after the other": Run(
        lambda: _forcing(),
        lambda: _forced(num_frames=13, ar_step=1, causal_block_size=2),
        PATH,
        calls=TWO,
    ),
    "SkyReelsV2DiffusionForcingPipeline: a long video": Run(
        lambda: _forcing(),
        lambda: _forced(num_frames=17, base_num_frames=9, overlap_history=5, addnoise_condition=20),
        PATH,
        calls=TWO,
    ),
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": Run(
        lambda: _forcing("ImageToVideo"),
        lambda: _forced(image=image()),
        PATH,
        calls=TWO,
    ),
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": Run(
        lambda: _forcing("VideoToVideo"),
        lambda: _forced(video=video(9), num_frames=17, base_num_frames=9, overlap_history=5),
        PATH,
        calls=TWO,
    ),
    "AnyFlowPipeline": Run(
        lambda: _pipe("AnyFlowPipeline", "anyflow", scheduler=FlowMapEulerDiscreteScheduler()),
        lambda: _text(negative_prompt_embeds=None),
        PATH,
    ),
    "AnyFlowPipeline: CFG, from a video": Run(
        lambda: _pipe("AnyFlowPipeline", "anyflow", scheduler=FlowMapEulerDiscreteScheduler()),
        lambda: _text(guidance_scale=4.0, video=video(1)),
        PATH,
    ),
    "AnyFlowFARPipeline": Run(
        _far, lambda: _text(num_frames=13, negative_prompt_embeds=None), PATH, reference=_values, prepares=_fills
    ),
    "AnyFlowFARPipeline: CFG, from a video": Run(
        _far,
        lambda: _text(num_frames=13, guidance_scale=4.0, video=torch.full((1, 1, 3, 32, 32), 0.5)),
        PATH,
        reference=_values,
        prepares=_fills,
    ),
}
