"""Joint attention in one stack of blocks: Qwen-Image and its relatives."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
