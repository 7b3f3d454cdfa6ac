"""Names of self-attention layers, in every spelling that users bring along.

========================  ==============================================================================
spelling                  meaning
========================  ==============================================================================
``m0`` ``d4`` ``u10``     the authors': n-th self-attention layer of the down, middle or up path
``u0.4`` ``d2.2-9``       ComfyUI's: n-th spatial transformer of the path, then index of the block in it;
``d1-3``                  each may be a range
``mid`` ``blocks.1``      diffusers': a regular expression found in the module path; numbers match whole,
                          so ``blocks.1`` never means ``blocks.10``
``down.block_2``          as diffusers documents it: ``down_blocks.2``
``13`` ``blocks.13``      in a transformer, the index of the block, also as a number
``double.7``              the same where there are two stacks of blocks, as in Flux
``single.12``
``input_blocks.14.1``     in an ADM, the module of the original code (guided-diffusion); or how it begins
full module path          with or without ``.processor``; or how it begins
``m0, u0.4``              a comma list of the above
a predicate               ``Callable[[Site], bool]``
========================  ==============================================================================
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_AUTHORS = re.compile(r"([dmu])(\d+)")
_COMFY = re.compile(r"([dmu])(\d+)(?:-(\d+))?(?:\.(\d+)(?:-(\d+))?)?")
_DOCUMENTED_BLOCK = re.compile(r"\b(down|up|mid)\.block(?=_\d|\.|$)")
_DOCUMENTED_INDEX = re.compile(r"(?<=[a-z])_(\d+)(?=\.|$)")
# An escape, a character class or a repeat count is left alone, and so is a digit next to one, where more
# digits may follow (`blocks.1[01]`). A plain number must match as a whole.
_REGEX_PIECES = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\{[^}]*\}|(?<!\])(?<!\\d)(?P<number>\d+)(?![*+?{\d\[]|\\[dw])")
_OUTER_COMMA = re.compile(r",(?![^(\[{]*[)\]}])")


@dataclass(frozen=True)
class Site:
    """One self-attention layer that can be perturbed.

    Args:
        path: module path of the attention inside the denoiser.
        authors: the authors' name, such as ``"m0"``, or ``""`` where theirs does not reach.
        comfy: ComfyUI's name, such as ``"m0.0"``, or ``""``.
        heads: number of attention heads.
        channels: width of the queries over all heads.
        block: which block of a transformer holds it, such as ``"13"``, ``"double.7"`` or ``"single.12"``, or ``""``.
        original: module path in the code that the network was published with, such as ``"input_blocks.14.1"``, if
            people name its layers so; or ``""``.
    """

    path: str
    authors: str
    comfy: str
    heads: int
    channels: int
    block: str = ""
    original: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every exact name, shortest first; regular expressions come on top."""
        return (*filter(None, (self.block, self.authors, self.comfy, self.original)), self.path)

    def __str__(self) -> str:
        return self.authors or self.path


Layers = str | int | Sequence[str | int] | Callable[[Site], bool]


def automatic(layers: object) -> bool:
    """Whether no layer is named, or ``"auto"`` is: the recommended ones are meant."""
    return layers is None or layers == "auto" or (isinstance(layers, list | tuple) and list(layers) == ["auto"])  # pyright: ignore


def select(sites: Sequence[Site], layers: Layers) -> tuple[Site, ...]:
    """The sites that the names or the predicate mean, in the network's order, each once.

    Raises:
        ValueError: if a name, or the predicate, matches nothing. The message lists what exists, nearest first.
        TypeError: if ``layers`` is neither names nor a predicate.
    """
    if callable(layers):
        chosen = [site for site in sites if layers(site)]
        if not chosen:
            raise ValueError(f"The predicate chose no layer. There is: {_listing(sites, '')}.")
        return tuple(chosen)
    names = _split(layers)
    if not names:
        raise ValueError(f"No layer is named, so there is nothing to perturb. There is: {_listing(sites, '')}.")
    wanted = {site.path for name in names for site in _find(sites, name)}
    return tuple(site for site in sites if site.path in wanted)


def _split(layers: object) -> list[str]:
    given = [layers] if isinstance(layers, str | int) else layers
    if not isinstance(given, Sequence) or isinstance(given, bytes) or not all(_is_name(name) for name in given):
        raise TypeError(f"layers must be a name, a list of names or a predicate, but is {layers!r}.")
    names = [part.strip() for name in given for part in _OUTER_COMMA.split(str(name))]
    return [name for name in names if name]


def _is_name(name: object) -> bool:
    return isinstance(name, str | int) and not isinstance(name, bool)


def _find(sites: Sequence[Site], name: str) -> list[Site]:
    found = _by_short_name(sites, name) or _by_path(sites, name)
    if not found:
        raise ValueError(f"Layer {name!r} matches nothing. There is, nearest first: {_listing(sites, name)}.")
    return found


def _by_short_name(sites: Sequence[Site], name: str) -> list[Site]:
    if found := [site for site in sites if site.block and site.block == name.removeprefix("blocks.")]:
        return found
    if found := [site for site in sites if site.original and _opens(site.original, name)]:
        return found
    if match := _AUTHORS.fullmatch(name):
        return [site for site in sites if site.authors == f"{match[1]}{int(match[2])}"]
    if match := _COMFY.fullmatch(name):
        owners = [f"{match[1]}{owner}" for owner in _range(match[2], match[3])]
        if match[4] is None:
            return [site for site in sites if site.comfy.split(".")[0] in owners]
        wanted = {f"{owner}.{block}" for owner in owners for block in _range(match[4], match[5])}
        return [site for site in sites if site.comfy in wanted]
    return []


def _range(first: str, last: str | None) -> range:
    return range(int(first), int(last or first) + 1)


def _by_path(sites: Sequence[Site], name: str) -> list[Site]:
    path = name.removesuffix(".processor").removeprefix("unet.").removeprefix("transformer.")
    if opening := [site for site in sites if _opens(site.path, path)]:
        return opening
    if name.isdecimal():  # also found in `attn1`, which nobody means
        return []
    path = _DOCUMENTED_INDEX.sub(r".\1", _DOCUMENTED_BLOCK.sub(r"\1_blocks", path).replace("mid_blocks", "mid_block"))
    try:
        pattern = re.compile(_whole_numbers(path) + r"(?![0-9])")
    except re.error as error:
        raise ValueError(
            f"Layer {name!r} is not a regular expression ({error}). There is: {_listing(sites, name)}."
        ) from None
    return [site for site in sites if pattern.search(site.path)]


def _opens(path: str, name: str) -> bool:
    return f"{path}.".startswith(f"{name}.")


def _whole_numbers(pattern: str) -> str:
    def guard(match: re.Match[str]) -> str:
        return f"(?<![0-9]){match[0]}(?![0-9])" if match["number"] else match[0]

    return _REGEX_PIECES.sub(guard, pattern)


def _listing(sites: Sequence[Site], name: str) -> str:
    def likeness(site: Site) -> tuple[float, bool]:
        ratio = max(difflib.SequenceMatcher(None, name, known).ratio() for known in site.names)
        return ratio, site.path[:1] == name[:1]

    ranked = sorted(sites, key=likeness, reverse=True)
    return ", ".join(
        " = ".join(filter(None, (site.block or site.authors, site.original, site.path))) for site in ranked
    )
