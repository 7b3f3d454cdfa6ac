"""The U-Nets of guided-diffusion that diffusers' own cannot express."""

from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel

__all__ = ["ADMUNet"]


# `ModelMixin` by name: diffusers looks for that in the module of a class to see how a pipeline's component is loaded.
class ADMUNet(UNet2DModel, ModelMixin):
    """A U-Net of guided-diffusion: ``UNet2DModel`` with what that lacks (arXiv 2105.05233).

    The unconditional and conditional models of 256×256 pixels need nothing of this and are ``UNet2DModel``. The other
    published ones do: those of 128×128 and the first upsampler have 4 attention heads at every width, that of 512×512
    starts with fewer channels than its embedding of the time has.

    Args:
        num_attention_heads: number of heads of every attention layer, in place of ``attention_head_dim``.
        time_proj_dim: width of the sinusoidal embedding of the time, if it is not ``block_out_channels[0]``.
        learned_variance: whether the second half of the output is a variance. Without it, where there are twice as many
            channels as in the sample; an upsampler's sample holds the small image, enlarged, as its second half.
        **kwargs: all that ``UNet2DModel`` takes.
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int | None = None,
        time_proj_dim: int | None = None,
        learned_variance: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if num_attention_heads is not None:
            kwargs["attention_head_dim"] = None
        super().__init__(**kwargs)
        if time_proj_dim is not None:
            config: Any = self.config
            self.time_proj = Timesteps(time_proj_dim, config.flip_sin_to_cos, config.freq_shift)
            self.time_embedding = TimestepEmbedding(time_proj_dim, self.time_embedding.linear_2.out_features)
        for module in self.modules():
            if num_attention_heads is not None and isinstance(module, Attention):
                _set_heads(module, num_attention_heads)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        # `kwargs` are in the configuration by their names.
        keys: set[str] = ConfigMixin._get_init_keys(input_class)
        return keys | ConfigMixin._get_init_keys(UNet2DModel) if "kwargs" in keys else keys


def _set_heads(attention: Attention, heads: int) -> None:
    if attention.inner_dim % heads:
        raise ValueError(f"{attention.inner_dim} channels cannot be divided into {heads} attention heads.")
    attention.heads = attention.sliceable_head_dim = heads
    attention.scale = (attention.inner_dim // heads) ** -0.5
