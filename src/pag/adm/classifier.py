"""The classifier of noisy images that guides ADM models to a class."""

from typing import Any, final

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ADMClassifier"]

GROUPS, EPSILON = 32, 1e-5


@final
class ADMClassifier(ModelMixin, ConfigMixin):
    """The way down of an ADM U-Net with one answer for all its pixels: the class of a noisy image (arXiv 2105.05233).

    Args:
        sample_size: height and width of the image.
        in_channels: of the image.
        num_classes: how many classes it tells apart.
        block_out_channels: of each level, finest first.
        layers_per_block: residual blocks of a level.
        down_block_types: of each level, as in ``UNet2DModel``.
        downsample_type: ``"resnet"`` or ``"conv"``.
        attention_head_dim: channels of an attention head.
        resnet_time_scale_shift: ``"scale_shift"`` or ``"default"``.
        time_proj_dim: width of the sinusoidal embedding of the time, if it is not ``block_out_channels[0]``.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 256,
        in_channels: int = 3,
        num_classes: int = 1000,
        block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512),
        layers_per_block: int = 2,
        down_block_types: tuple[str, ...] = ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
        downsample_type: str = "resnet",
        attention_head_dim: int = 64,
        resnet_time_scale_shift: str = "scale_shift",
        time_proj_dim: int | None = None,
    ) -> None:
        super().__init__()
        width, *_, last = (time_proj_dim or block_out_channels[0], *block_out_channels)
        common: dict[str, Any] = {
            "temb_channels": 4 * width,
            "resnet_eps": EPSILON,
            "resnet_act_fn": "silu",
            "resnet_groups": GROUPS,
            "attention_head_dim": attention_head_dim,
            "resnet_time_scale_shift": resnet_time_scale_shift,
        }
        self.conv_in = nn.Conv2d(in_channels, block_out_channels[0], 3, padding=1)
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, 4 * width)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                kind,
                num_layers=layers_per_block,
                in_channels=block_out_channels[max(level - 1, 0)],
                out_channels=block_out_channels[level],
                add_downsample=level < len(block_out_channels) - 1,
                downsample_padding=1,
                downsample_type=downsample_type,
                **common,
            )
            for level, kind in enumerate(down_block_types)
        )
        self.mid_block = UNetMidBlock2D(in_channels=last, attn_groups=GROUPS, **common)
        self.conv_norm_out = nn.GroupNorm(GROUPS, last, eps=EPSILON)
        side = sample_size // 2 ** (len(block_out_channels) - 1)
        self.pool = AttentionPool(last, last // attention_head_dim, num_classes, positions=side**2 + 1)

    def forward(
        self, sample: Float[Tensor, "rows channels height width"], timestep: Tensor | float
    ) -> Float[Tensor, "rows classes"]:
        """The logits of each image's class.

        Args:
            sample: noisy images.
            timestep: how noisy: one for all, or one for each.
        """
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        embedded = self.time_embedding(self.time_proj(times).to(self.dtype))
        hidden = self.conv_in(sample)
        for block in self.down_blocks:
            hidden, _ = block(hidden_states=hidden, temb=embedded)
        hidden = self.mid_block(hidden, embedded)
        return self.pool(F.silu(self.conv_norm_out(hidden)))


@final
class AttentionPool(nn.Module):
    """The answer of one query, the mean of all pixels, that attends to itself and to every pixel."""

    def __init__(self, channels: int, heads: int, answers: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(channels, positions) / channels**0.5)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.Linear(channels, answers)

    def forward(self, pixels: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows answers"]:
        """Pool."""
        tokens = pixels.flatten(2)
        tokens = torch.cat([tokens.mean(-1, keepdim=True), tokens], dim=-1) + self.positional_embedding
        tokens = tokens.transpose(1, 2)
        query, key, value = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.to_q(tokens[:, :1]), self.to_k(tokens), self.to_v(tokens))
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))
