"""Checks of a pipeline's inputs that would otherwise fail deep inside with a message about matrix shapes."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pag.pipelines._document import CALL_ARGUMENTS

# diffusers takes these through **kwargs and warns of them itself.
_LEGACY = ("callback", "callback_steps")


def check_names(call: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Raise if a keyword is no argument of the call: diffusers' ``**kwargs`` would swallow a misspelt one.

    Raises:
        TypeError: if a name is unknown; the message says which is nearest.
    """
    known = [*inspect.signature(call).parameters, *(argument.name for argument in CALL_ARGUMENTS), *_LEGACY]
    for name in kwargs:
        if name not in known:
            nearest = ", ".join(difflib.get_close_matches(name, known)) or "see help(pipe.__call__)"
            raise TypeError(f"The pipeline takes no argument {name!r}. Nearest: {nearest}.")


def check_prompts(pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise if a prompt is no text, or if embeddings do not fit the denoiser.

    Raises:
        TypeError: if a prompt is neither a string nor a list of strings, or embeddings are no tensor.
        ValueError: if embeddings are not of shape (rows, tokens, width) with the denoiser's width.
    """
    given = inspect.signature(call).bind_partial(pipe, *args, **kwargs).arguments
    for name in ("prompt", "negative_prompt"):
        if (value := given.get(name)) is not None:
            _check_text(name, value)
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        if (value := given.get(name)) is not None:
            _check_embeddings(name, value, _text_width(pipe.unet.config))


def _text_width(config: Any) -> int | None:
    # Other kinds of U-Nets project the text first, to a width that their configuration tells in many ways.
    plain = config.encoder_hid_dim_type in (None, "ip_image_proj")
    return config.cross_attention_dim if plain and isinstance(config.cross_attention_dim, int) else None


def _check_text(name: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    for text in texts:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a string or a list of strings, but holds {text!r}.")
    if not texts:
        raise ValueError(f'{name} is an empty list. Pass at least one string; "" samples unconditionally.')


def _check_embeddings(name: str, value: Any, width: int | None) -> None:
    shape = f"(rows, tokens, {width or 'width'})"
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor of shape {shape}, but is {type(value).__name__}.")
    if value.ndim != 3 or value.shape[-1] != (width or value.shape[-1]):
        raise ValueError(f"{name} must have shape {shape}, but has {tuple(value.shape)}.")
