"""Runs on networks of `pag.families.cosmos`."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCosmos,
    Cosmos3OmniTransformer,
    CosmosControlNetModel,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tests import zoo
from tests.denoisers import NETWORKS
from tests.denoisers._network import strong
from tests.runs import wan
from tests.runs._run import Run, pipeline

PATH, CALLS = "transformer_blocks.1.attn1", ("cond", "uncond")


class Harmless:
    """A safety checker that finds nothing: the pipelines insist on one."""

    def to(self, *args: Any) -> None:
        """Stay."""


def _pipe(name: str, network: str, scheduler: Any, vae: Any = None, **components: Any) -> Any:
    return pipeline(
        name,
        safety_checker=Harmless(),
        scheduler=scheduler,
        transformer=strong(NETWORKS[network].make),
        vae=vae or wan.vae(),
        **components,
    )


def _edm() -> EDMEulerScheduler:
    return EDMEulerScheduler(sigma_schedule="karras", final_sigmas_type="sigma_min")


def _karras() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


def _flow() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)


def _vae() -> AutoencoderKLCosmos:
    torch.manual_seed(2)
    return AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    ).eval()


def _controlnet() -> CosmosControlNetModel:
    def make() -> CosmosControlNetModel:
        return CosmosControlNetModel(
            n_controlnet_blocks=2,
            in_channels=6,
            latent_channels=6,
            model_channels=32,
            num_attention_heads=2,
            attention_head_dim=16,
            mlp_ratio=2,
            text_embed_dim=16,
            adaln_lora_dim=4,
            max_size=(4, 32, 32),
            extra_pos_embed_type=None,
            img_context_dim_in=8,
            img_context_dim_out=32,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=12,
            encoder_hidden_states_channels=16,
        )

    return strong(make)  # pyright: ignore[reportReturnType]


def _embeddings(width: int = 16) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    names = ("prompt_embeds", "negative_prompt_embeds")
    embeddings = {name: torch.randn(1, 5, width, generator=generator) for name in names}
    return embeddings | {"height": 32, "width": 32, "guidance_scale": 4.0}


def _video(width: int = 16) -> dict[str, Any]:
    return _embeddings(width) | {"num_frames": 9}


def _image_to_video(width: int = 16) -> dict[str, Any]:
    return _video(width) | {"video": zoo.picture(5, size=32)[None]}


VISION = 12
"""Tokens of 3 frames of 2×2 patches; those of the sound follow."""


def _omni(**config: Any) -> Cosmos3OmniTransformer:
    tiny: dict[str, Any] = {
        "head_dim": 8,
        "hidden_size": 32,
        "intermediate_size": 32,
        "latent_channel": 4,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "patch_latent_dim": 16,
        "rope_axes_dim": (2, 1, 1),
        "vocab_size": 32,
    }
    return Cosmos3OmniTransformer(**(tiny | config))


class _Tokenizer:
    """Names of special tokens: texts are tokenized by hand."""

    eos_token_id = 0

    def convert_tokens_to_ids(self, token: str) -> int:
        """A number for it."""
        return 1


def _cosmos3(**config: Any) -> Any:
    pipe = pipeline(
        "Cosmos3OmniPipeline",
        enable_safety_checker=False,
        scheduler=_flow(),
        text_tokenizer=_Tokenizer(),
        transformer=strong(lambda: _omni(**config)),
        vae=wan.vae(),
    )
    pipe.tokenize_prompt = lambda *args, **kwargs: ([5, 6, 7, 8, 9], [10, 11, 12])  # pyright: ignore
    return pipe


def _cosmos3_with_sound() -> Any:
    pipe = _cosmos3(sound_gen=True, sound_dim=6)
    pipe.sound_tokenizer = SimpleNamespace(config=SimpleNamespace(sampling_rate=40), _hop_size=1)
    pipe.decode_sound = lambda latent: latent  # pyright: ignore
    return pipe


def _omni_arguments() -> dict[str, Any]:
    return {"prompt": "text", "height": 32, "width": 32, "num_frames": 9, "guidance_scale": 4.0}


def _among_generated(queries: int, keys: int) -> tuple[slice, int] | None:
    """Text is read causally by an operation of its own; what is generated has it ahead among the keys."""
    return None if queries == keys else (slice(0, VISION), keys - queries)


PATH3 = "layers.1.self_attn"

RUNS = {
    "CosmosTextToWorldPipeline": Run(
        lambda: _pipe("CosmosTextToWorldPipeline", "cosmos", _edm(), _vae()), _video, PATH, calls=CALLS
    ),
    "CosmosTextToWorldPipeline: no CFG": Run(
        lambda: _pipe("CosmosTextToWorldPipeline", "cosmos", _edm(), _vae()),
        lambda: _video() | {"guidance_scale": 1.0},
        PATH,
    ),
    "CosmosVideoToWorldPipeline": Run(
        lambda: _pipe("CosmosVideoToWorldPipeline", "cosmos2", _edm(), _vae()), _image_to_video, PATH, calls=CALLS
    ),
    "Cosmos2TextToImagePipeline": Run(
        lambda: _pipe("Cosmos2TextToImagePipeline", "cosmos", _karras()),
        _embeddings,
        PATH,
        calls=CALLS,
    ),
    "Cosmos2VideoToWorldPipeline": Run(
        lambda: _pipe("Cosmos2VideoToWorldPipeline", "cosmos2", _karras()),
        _image_to_video,
        PATH,
        calls=CALLS,
    ),
    "Cosmos2_5_PredictBasePipeline": Run(
        lambda: _pipe("Cosmos2_5_PredictBasePipeline", "cosmos2", _flow()), _image_to_video, PATH, calls=CALLS
    ),
    "Cosmos2_5_TransferPipeline": Run(
        lambda: _pipe("Cosmos2_5_TransferPipeline", "cosmos25", _flow(), controlnet=_controlnet()),
        lambda: _embeddings(12) | {"controls": zoo.picture(9, size=32)[None], "num_frames_per_chunk": 9, "width": 32},
        PATH,
        calls=CALLS,
    ),
    "Cosmos3OmniPipeline": Run(_cosmos3, _omni_arguments, PATH3, _among_generated, calls=CALLS),
    "Cosmos3OmniPipeline: no CFG": Run(
        _cosmos3, lambda: _omni_arguments() | {"guidance_scale": 1.0}, PATH3, _among_generated
    ),
    "Cosmos3OmniPipeline: the sound": Run(
        _cosmos3_with_sound,
        lambda: _omni_arguments() | {"enable_sound": True},
        PATH3,
        _among_generated,
        calls=CALLS,
        predictions=2,
        output=lambda output: output[1],
    ),
}
