"""Transformers of sound: Stable Audio, LongCat, ACE-Step, MiniMax. What is said of an image holds for its latents."""

from typing import Any

import torch

from pag.families._family import ROWS, Attending, Convention, Family
from pag.families._sites import text_enters_at, transformer_sites
from pag.families.wan import SOURCE

NO_CFG = Convention(("cond",))
"""Guidance is distilled into the network."""


def _after_global_token(attending: Attending) -> slice:
    """The first token is the noise level, and the duration."""
    return slice(1, attending.queries)


def _stable_audio_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    table = torch.ones(config.sample_size + 1, config.attention_head_dim // 2, device=device)
    return {
        "hidden_states": torch.empty(rows, config.in_channels, config.sample_size, device=device),
        "timestep": torch.ones(1, device=device),
        "encoder_hidden_states": torch.empty(rows, 130, config.cross_attention_input_dim, device=device),
        "global_hidden_states": torch.empty(rows, 1, config.global_states_input_dim, device=device),
        "rotary_embedding": (table, table),
        "return_dict": False,  # its output class warns that it will be renamed
    }


STABLE_AUDIO = Family(
    models=("StableAudioDiTModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_stable_audio_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("preprocess_conv", "transformer_blocks"),
    text_entry=text_enters_at("transformer_blocks.0.attn2"),
    trunk_arguments=("hidden_states", "timestep", "global_hidden_states", "attention_mask"),
    row_arguments=(*ROWS, "global_hidden_states"),
    image=_after_global_token,
)


def _after_memory(attending: Attending) -> slice:
    """Learned tokens come first."""
    return slice(attending.config.num_memory_tokens, attending.queries)


def _stable_audio_3_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.io_channels, 1292, device=device),  # two minutes
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 257, config.cond_token_dim, device=device),
        "global_hidden_states": torch.empty(rows, config.global_cond_dim, device=device),
    }


# Its attention is the difference of two maps, A₁V − A₂V, and each of them becomes the identity. Not their difference
# as a whole, whose rows sum to 0. And not one of them: exchange A₁ and A₂, turn the sign of V and of the output layer's
# weights, and the network computes the same, but a rule for A₁ alone, or for the whole, would do something else then.
# So a token's own value drops out, up to the weights that the learned tokens have in the two maps.
STABLE_AUDIO_3 = Family(
    models=("StableAudio3DiTModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_stable_audio_3_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("preprocess_conv", "transformer_blocks"),
    row_arguments=(*ROWS, "global_hidden_states", "local_add_cond"),
    image=_after_memory,
    conventions={"StableAudio3AudioToAudioPipeline": NO_CFG, "StableAudio3InpaintPipeline": NO_CFG},
)


def _longcat_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, 352, config.latent_dim, device=device),  # half a minute
        "encoder_hidden_states": torch.empty(rows, 256, config.dit_text_dim, device=device),
        "encoder_attention_mask": torch.ones(rows, 256, dtype=torch.bool, device=device),
        "timestep": torch.ones(rows, device=device),
        "latent_cond": torch.empty(rows, 352, config.latent_dim, device=device),
    }


LONGCAT = Family(
    models=("LongCatAudioDiTTransformer",),
    sites=transformer_sites("blocks"),
    example=_longcat_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("text_embed", "text_conv_layer", "input_embed", "latent_embed", "latent_cond_embedder", "blocks"),
    row_arguments=(*ROWS, "latent_cond"),
    convention=Convention(calls=("cond", "uncond"), on_above=1.0),
)


def _ace_step_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    acoustic = config.audio_acoustic_hidden_dim
    return {
        "hidden_states": torch.empty(rows, 1500, acoustic, device=device),  # a minute
        "timestep": torch.ones(rows, device=device),
        "timestep_r": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(
            rows, 512, config.encoder_hidden_size or config.hidden_size, device=device
        ),
        "context_latents": torch.empty(rows, 1500, config.in_channels - acoustic, device=device),
    }


ACE_STEP = Family(
    models=("AceStepTransformer1DModel",),
    sites=transformer_sites("layers"),
    example=_ace_step_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("condition_embedder", "layers"),
    row_arguments=(*ROWS, "timestep_r", "context_latents"),
    # It projects c − u on c, which with guidance is the guided c, and adds it to that.
    convention=Convention(("cond", "uncond"), also_alone=True, formula=None, switch="apply_cfg"),
)


def _music_example(model: Any, rows: int) -> dict[str, Any]:
    config, device = model.config, model.device
    return {
        "hidden_states": torch.empty(rows, config.in_channels, 689, device=device),  # a window of eight seconds
        "timestep": torch.ones(rows, device=device),
        "encoder_hidden_states": torch.empty(rows, 689, config.condition_dim, device=device),
    }


MINIMAX_MUSIC = Family(
    models=("MiniMaxMusic3Transformer1DModel",),
    sites=transformer_sites("transformer_blocks"),
    example=_music_example,
    layers=0.5,
    scale=3.0,
    source=SOURCE,
    trunk=("preprocess_conv", "proj_in", "transformer_blocks"),
    image=_after_global_token,
)

FAMILIES = (STABLE_AUDIO, STABLE_AUDIO_3, LONGCAT, ACE_STEP, MINIMAX_MUSIC)
