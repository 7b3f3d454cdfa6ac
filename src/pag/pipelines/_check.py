"""Checks of a pipeline's inputs that would otherwise fail deep inside with a message about matrix shapes."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pag.families import denoiser_of

# diffusers takes these through **kwargs and warns of them itself.
_LEGACY = ("callback", "callback_steps", "prior_callback", "prior_callback_steps")
_TEXT = re.compile(r"[Ss]tr|[Ll]ist|typing|Union|Optional|None(Type)?|class|[\W]")


def check_names(call: Callable[..., Any], more: Sequence[str], kwargs: Mapping[str, Any]) -> None:
    """Raise if a keyword is no argument of the call: diffusers' ``**kwargs`` would swallow a misspelt one.

    Args:
        call: the call of the plain class.
        more: names of the arguments on top.
        kwargs: what was given.

    Raises:
        TypeError: if a name is unknown; the message says which is nearest.
    """
    parameters = inspect.signature(call).parameters
    known = [*parameters, *more, *_LEGACY]
    # Elsewhere than in diffusers, any name may have a meaning.
    free = parameters.keys() & {"kwargs"} and not call.__module__.startswith("diffusers.")
    for name in kwargs:
        if name not in known and (name.startswith("pag") or not free):
            nearest = ", ".join(difflib.get_close_matches(name, known)) or "see help(pipe.__call__)"
            raise TypeError(f"The pipeline takes no argument {name!r}. Nearest: {nearest}.")


def check_prompts(pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise if a prompt is no text where the pipeline takes text, or if embeddings do not fit the denoiser.

    Raises:
        TypeError: if a prompt is neither a string nor a list of strings, or embeddings are no tensor.
        ValueError: if embeddings are not of shape (rows, tokens, width) with the denoiser's width.
    """
    signature = inspect.signature(call)
    given = signature.bind_partial(pipe, *args, **kwargs).arguments
    for name in ("prompt", "negative_prompt"):
        if (value := given.get(name)) is not None and _takes_text(signature.parameters[name]):
            _check_text(name, value)
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        if (value := given.get(name)) is not None and _takes_tensor(signature.parameters[name]):
            _check_embeddings(name, value, _text_width(denoiser_of(pipe)))


def _takes_text(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is not parameter.empty and not _TEXT.sub("", str(parameter.annotation))


def _takes_tensor(parameter: inspect.Parameter) -> bool:
    text = str(parameter.annotation)
    return "Tensor" in text and "ist[" not in text


def _text_width(denoiser: Any) -> int | None:
    # What comes in at this width is known of U-Nets that do not project the text first.
    config = getattr(denoiser, "config", None)
    if getattr(config, "encoder_hid_dim_type", "unknown") not in (None, "ip_image_proj"):
        return None
    width = getattr(config, "cross_attention_dim", None)
    return width if isinstance(width, int) else None


def _check_text(name: str, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    for text in texts:  # pyright: ignore[reportUnknownVariableType]
        # A dictionary gives AnimateDiff a prompt for each of some frames.
        if not isinstance(text, str | list | dict | tuple):
            raise TypeError(f"{name} must be a string or a list of strings, but holds {text!r}.")
    if not texts:
        raise ValueError(f'{name} is an empty list. Pass at least one string; "" samples unconditionally.')


def _check_embeddings(name: str, value: Any, width: int | None) -> None:
    shape = f" of shape (rows, tokens, {width})" if width else ""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor{shape}, but is {type(value).__name__}.")
    if width and (value.ndim != 3 or value.shape[-1] != width):
        raise ValueError(f"{name} must be{shape}, but is of {tuple(value.shape)}.")
