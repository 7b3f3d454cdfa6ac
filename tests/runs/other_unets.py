"""Runs on networks of `pag.families.other_unets`: images without text, sound, Kandinsky 3, DreamLite."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    CMStochasticIterativeScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from PIL import Image
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.denoisers.other_unets import plain
from tests.runs._run import Run, pipeline
from tests.runs.added_keys import movq

_MID, _SPATIAL = "mid_block.attentions.0", "mid_block.attentions.0.transformer_blocks.0.attn1"


def _run(make: Callable[[], Any], arguments: Callable[[], dict[str, Any]], path: str, **facts: Any) -> Run:
    return Run(make, arguments, path, denoisers=("unet",), **facts)


def _plain(cls: str, network: str = "unet2d", **components: Any) -> Any:
    given = {"scheduler": DDPMScheduler(beta_end=0.002), "unet": strong(NETWORKS[network].make)}
    return pipeline(cls, **(given | components))


class _Words:
    """Stands for a tokenizer, and for a text encoder."""

    dtype = torch.float32
    config = SimpleNamespace(model_type="t5")

    def __call__(self, texts: Any, **_: Any) -> Any:
        if isinstance(texts, list):
            return SimpleNamespace(input_ids=torch.tensor(len(texts[0])))
        seed = int(texts)
        return (torch.randn(1, zoo.TOKENS, zoo.TEXT, generator=torch.Generator().manual_seed(seed)),)


def _latent_diffusion() -> Any:
    return zoo.pipeline("LDMTextToImagePipeline", vqvae=zoo.vae(), bert=_Words(), tokenizer=_Words())


def _kandinsky3(cls: str) -> Any:
    return pipeline(cls, unet=strong(NETWORKS["kandinsky3"].make), movq=movq(), scheduler=DDPMScheduler(beta_end=0.002))


def _masked_prompts() -> dict[str, Any]:
    masks = {"attention_mask": torch.ones(1, zoo.TOKENS), "negative_attention_mask": torch.ones(1, zoo.TOKENS)}
    masks["negative_attention_mask"][:, -2:] = 0
    return zoo.prompts() | masks


def _sound() -> Any:
    config = SpeechT5HifiGanConfig(
        model_in_dim=16,
        sampling_rate=16000,
        upsample_initial_channel=4,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
    )
    network = strong(NETWORKS["audioldm2"].make)
    pipe = pipeline(
        "AudioLDM2Pipeline",
        unet=network,
        vae=zoo.vae(),
        scheduler=zoo.ddim(),
        vocoder=SpeechT5HifiGan(config),
        text_encoder_2=_Words(),
    )
    generator = torch.Generator().manual_seed(5)
    text, generated = (torch.randn(2, length, width, generator=generator) for length, width in ((5, 12), (4, 16)))
    masks = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    pipe.encode_prompt = lambda *_, **__: (text, masks, generated)
    return pipe


def _dreamlite(cls: str, rows: int) -> Any:
    torch.manual_seed(2)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    pipe = pipeline(
        cls,
        unet=strong(NETWORKS["dreamlite"].make),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=_Words(),
    )
    embeddings = torch.randn(rows, zoo.TOKENS, 12, generator=torch.Generator().manual_seed(5))
    mask = torch.ones(rows, zoo.TOKENS, dtype=torch.long)
    mask[0, -2:] = 0
    pipe.encode_prompt = lambda *_, **__: (embeddings, mask)
    return pipe


def _drawn(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"prompt": "a cat", "height": 16, "width": 16} | more


_PAINTING = Image.effect_noise((16, 16), 60).convert("RGB")

RUNS = {
    "DDPMPipeline": _run(lambda: _plain("DDPMPipeline"), dict, _MID, output_type="np"),
    "DDPMPipeline: learned variance": _run(
        lambda: _plain(
            "DDPMPipeline",
            scheduler=DDPMScheduler(beta_end=0.002, variance_type="learned_range"),
            unet=strong(lambda: plain(out_channels=6)),
        ),
        dict,
        _MID,
        output_type="np",
        variance=True,
    ),
    "DDIMPipeline": _run(
        lambda: _plain("DDIMPipeline", scheduler=zoo.ddim(beta_end=0.002)), dict, _MID, output_type="np"
    ),
    "ConsistencyModelPipeline": _run(
        lambda: _plain(
            "ConsistencyModelPipeline",
            scheduler=CMStochasticIterativeScheduler(),
            unet=strong(lambda: plain(num_class_embeds=10)),
        ),
        lambda: {"class_labels": 3},
        _MID,
        output_type="pt",
    ),
    "LDMSuperResolutionPipeline": _run(
        lambda: _plain(
            "LDMSuperResolutionPipeline",
            scheduler=zoo.ddim(beta_end=0.002),
            unet=strong(lambda: plain(in_channels=6)),
            vqvae=zoo.vae(latent_channels=3),
        ),
        lambda: {"image": zoo.picture(size=8)},
        _MID,
        output_type="pt",
    ),
    "LDMTextToImagePipeline": _run(
        _latent_diffusion,
        lambda: {"prompt": ["a cat"], "height": 128, "width": 128, "guidance_scale": 4.0},
        _SPATIAL,
        output_type="pt",
    ),
    "LDMTextToImagePipeline: no CFG": _run(
        _latent_diffusion, lambda: {"prompt": ["a cat"], "height": 128, "width": 128}, _SPATIAL, output_type="pt"
    ),
    "Kandinsky3Pipeline": _run(
        lambda: _kandinsky3("Kandinsky3Pipeline"),
        lambda: _masked_prompts() | {"height": 16, "width": 16},
        "up_blocks.0.attentions.0.attention",
    ),
    "Kandinsky3Img2ImgPipeline": _run(
        lambda: _kandinsky3("Kandinsky3Img2ImgPipeline"),
        lambda: _masked_prompts() | {"image": zoo.picture(size=16), "strength": 1.0},
        "up_blocks.0.attentions.0.attention",
    ),
    "AudioLDM2Pipeline": _run(_sound, lambda: {"prompt": "a dog", "audio_length_in_s": 0.004}, _SPATIAL),
    "DreamLitePipeline": _run(lambda: _dreamlite("DreamLitePipeline", 2), _drawn(), _SPATIAL),
    "DreamLitePipeline: editing": _run(
        lambda: _dreamlite("DreamLitePipeline", 3), _drawn(image=_PAINTING), _SPATIAL, groups={3: (3, 2)}
    ),
    "DreamLiteMobilePipeline": _run(lambda: _dreamlite("DreamLiteMobilePipeline", 1), _drawn(), _SPATIAL),
}
