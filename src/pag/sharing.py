"""Which modules of a network can share rows: from the facts of its family."""

from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from pag.families import QUERIES_AND_KEYS, Family
from pag.layers import Site
from pag.rows import Stage


def sharing_modules(
    model: nn.Module, family: Family, sites: Sequence[Site], text_entry: str | None
) -> Iterator[nn.Module]:
    """The largest modules that can share rows: in the trunk up to the first site, holding no landmark themselves.

    Without sites, those up to the one at which the text enters.

    Within a site these are the matrices that make the queries, keys and values: what follows is cheap, or attends.
    """
    paths = [site.path for site in sites]
    landmarks = [*paths, text_entry] if text_entry else paths

    def within(path: str) -> Iterator[nn.Module]:
        module = model.get_submodule(path)
        if path == text_entry or path.rpartition(".")[2] in family.unshared:
            return
        parted = any(_holds(path, landmark) for landmark in landmarks)
        inside = any(_holds(site, path) for site in paths)
        # A list of modules is never called itself.
        if parted or (inside and any(module.children())) or isinstance(module, nn.ModuleList | nn.ModuleDict):
            for name, _ in module.named_children():
                yield from within(f"{path}.{name}")
                # What stands behind the first site in a list runs after it.
                if isinstance(module, nn.ModuleList) and any(_holds(f"{path}.{name}", site) for site in paths[:1]):
                    return
        elif not inside or multiplies(module):
            yield module

    for block in _blocks(model, family):
        yield from within(block)
        if any(_holds(block, path) for path in paths or landmarks):
            return


def query_and_key_makers(site: nn.Module) -> list[nn.Module]:
    """The matrices of an attention module that make nothing but queries or keys, unless it adds others of something."""
    if getattr(site, "added_kv_proj_dim", None) is not None:
        return []
    return [made for name in QUERIES_AND_KEYS if isinstance(made := getattr(site, name, None), nn.Module)]


def stages(model: nn.Module, family: Family, modules: Iterable[nn.Module]) -> Iterator[tuple[nn.Module, Stage]]:
    """Each module, and the first stage that its rows can be in: some have the text before it enters."""
    parts = [part for name in family.text_trunk if (part := getattr(model, name, None)) is not None]
    texts = {module for part in parts for module in part.modules()}
    for module in modules:
        yield module, Stage.TEXT if module in texts else Stage.START


def _blocks(model: nn.Module, family: Family) -> Iterator[str]:
    for part in family.trunk:
        child = getattr(model, part, None)
        if isinstance(child, nn.ModuleList):
            yield from (f"{part}.{index}" for index in range(len(child)))
        elif child is not None:
            yield part


def multiplies(module: nn.Module) -> bool:
    """Whether a module holds a matrix."""
    return any(weight.ndim > 1 for weight in module.parameters())


def _holds(path: str, landmark: str) -> bool:
    return landmark == path or landmark.startswith(path + ".")
