"""The U-Net of Stable Diffusion, Stable Diffusion XL, DeepFloyd IF, Kandinsky 2: ``UNet2DConditionModel``."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from pag.families._family import Convention, Family
from pag.layers import Site

TRUNK = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block", "up_blocks")
_NUMBERED = re.compile(r"\.(attn1|attentions\.\d+)$")
_TEMPORAL = re.compile(r"\.(motion_modules|temporal_transformer_blocks)\.")
"""Attention of each pixel to itself in other frames: of no short name."""
_TRANSFORMER = re.compile(r"(?P<owner>.*)\.transformer_blocks\.(?P<block>\d+)\.attn1")


def _attentions(model: nn.Module) -> Iterator[tuple[str, Attention]]:
    # The model registers its middle block last, but runs it between the down and the up path.
    for part in TRUNK:
        if (child := getattr(model, part, None)) is None:
            continue
        for name, module in child.named_modules(prefix=part):
            if isinstance(module, Attention):
                yield name, module


def has_added_keys(module: nn.Module) -> bool:
    """Whether an attention module has the image's keys and, ahead of them, added ones of the text.

    Those without the image's keys count as cross-attention.
    """
    return isinstance(module, Attention) and module.added_kv_proj_dim is not None and not module.only_cross_attention


def sites(model: nn.Module) -> tuple[Site, ...]:
    """Self-attention layers in the order in which they run, with the authors' and ComfyUI's numbers."""
    layer_count: defaultdict[str, int] = defaultdict(int)
    owners: defaultdict[str, list[str]] = defaultdict(list)
    found: list[Site] = []
    for path, module in _attentions(model):
        if module.is_cross_attention and not has_added_keys(module):
            continue
        part, authors, comfy = path[0], "", ""
        if _TEMPORAL.search(path):
            found.append(Site(path, "", "", module.heads, module.inner_dim))
            continue
        if _NUMBERED.search(path):
            authors = f"{part}{layer_count[part]}"
            layer_count[part] += 1
        if match := _TRANSFORMER.fullmatch(path):
            if match["owner"] not in owners[part]:
                owners[part].append(match["owner"])
            comfy = f"{part}{len(owners[part]) - 1}.{match['block']}"
        found.append(Site(path, authors, comfy, module.heads, module.inner_dim))
    return tuple(found)


def text_entry(model: nn.Module) -> str | None:
    """The first cross-attention, unless the prompt also enters through the time embedding, added keys or a gate."""
    config: Any = model.config
    added, gate = config.get("addition_embed_type"), config.get("attention_type", "default")
    if added is not None or gate != "default" or predicts_variance(model):
        return None
    return next((path for path, module in _attentions(model) if module.is_cross_attention), None)


def text_readers(model: nn.Module) -> list[str]:
    """All cross-attentions, unless the text is projected or added to the timestep first, or an adapter reads it too."""
    config: Any = model.config
    projected = config.get("encoder_hid_dim_type") is not None or getattr(model, "encoder_hid_proj", None) is not None
    if projected or config.get("addition_embed_type") not in (None, "text_time") or predicts_variance(model):
        return []
    return [path for path, module in _attentions(model) if module.is_cross_attention]


def predicts_variance(model: nn.Module) -> bool:
    """Of all pipelines, those of DeepFloyd IF and Kandinsky 2 expect it, and they alone have added keys."""
    return any(has_added_keys(module) for module in model.modules())


def example(model: Any, rows: int) -> dict[str, Any]:
    """One call's arguments at the size that the model was trained for, with 77 text tokens."""
    config, device = model.config, model.device
    size = config.sample_size or 64
    size = size if isinstance(size, int) else size[0]
    width = config.cross_attention_dim if isinstance(config.cross_attention_dim, int) else config.cross_attention_dim[0]

    def empty(*shape: int) -> Tensor:
        return torch.empty(rows, *shape, device=device)

    arguments: dict[str, Any] = {
        "sample": empty(config.in_channels, size, size),
        "timestep": torch.ones((), device=device),
        "encoder_hidden_states": empty(77, config.encoder_hid_dim or width),
    }
    if config.class_embed_type in ("projection", "simple_projection"):
        arguments["class_labels"] = empty(config.projection_class_embeddings_input_dim)
    elif config.class_embed_type is not None or config.num_class_embeds is not None:
        arguments["class_labels"] = torch.zeros(rows, dtype=torch.long, device=device)
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        arguments["added_cond_kwargs"] = {"text_embeds": empty(pooled), "time_ids": empty(6)}
    elif config.addition_embed_type == "text_image":  # Kandinsky 2.1
        arguments["added_cond_kwargs"] = {"text_embeds": empty(width), "image_embeds": empty(width)}
    elif config.addition_embed_type in ("image", "image_hint"):  # Kandinsky 2.2
        arguments["added_cond_kwargs"] = {"image_embeds": empty(config.encoder_hid_dim)}
        arguments["encoder_hidden_states"] = None
    elif config.addition_embed_type == "time":  # DreamLite
        sizes = config.projection_class_embeddings_input_dim // config.addition_time_embed_dim
        arguments["added_cond_kwargs"] = {"time_ids": empty(sizes)}
    if config.addition_embed_type == "image_hint":  # its ControlNet has a picture for the last 4 channels
        arguments["sample"] = empty(config.in_channels - 4, size, size)
        arguments["added_cond_kwargs"]["hint"] = empty(3, 8 * size, 8 * size)
    return arguments


# The result may be rescaled to the deviation of the prompt's prediction.
_PIX2PIX = Convention(("cond", "image", "uncond"), formula=None, norm=True)
NO_CFG = Convention(("cond",))
"""All rows are the prompt's, or there is no prompt."""
_BEHIND_AN_IMAGE = Convention(("cond",), noisy_first=False)

UNET = Family(
    models=("UNet2DConditionModel", "DreamLiteUNetModel"),
    sites=sites,
    sample="sample",
    row_arguments=(
        "sample",
        "timestep",
        "encoder_hidden_states",
        "class_labels",
        "timestep_cond",
        "attention_mask",
        "encoder_attention_mask",
        "added_cond_kwargs",
        "cross_attention_kwargs.gligen",
        "down_block_additional_residuals",
        "mid_block_additional_residual",
        "down_intrablock_additional_residuals",
    ),
    trunk=TRUNK,
    trunk_arguments=("sample", "timestep", "class_labels", "timestep_cond", "attention_mask"),
    text_entry=text_entry,
    read_in={"encoder_hidden_states": text_readers},
    taken_singly=("down_block_additional_residuals",),
    variance=predicts_variance,
    degradable=True,
    looked_at=("mid",),
    example=example,
    layers=("mid",),
    scale=3.0,
    source="arXiv 2403.17377: SD 1.5 text-to-image with CFG 4, layer m0",
    conventions={
        "StableDiffusionLatentUpscalePipeline": Convention(log_sigma=True),
        "StableDiffusionInstructPix2PixPipeline": _PIX2PIX,
        "StableDiffusionXLInstructPix2PixPipeline": _PIX2PIX,
        # Another image beside the noisy one.
        "DreamLitePipeline": Convention(
            groups_with=("image", ("uncond", "image", "cond")), on_above=float("-inf"), noisy_first=False
        ),
        "DreamLiteMobilePipeline": _BEHIND_AN_IMAGE,
        "MarigoldDepthPipeline": _BEHIND_AN_IMAGE,
        "MarigoldNormalsPipeline": _BEHIND_AN_IMAGE,
        "MarigoldIntrinsicsPipeline": _BEHIND_AN_IMAGE,
    },
)

FAMILIES = (UNET,)
