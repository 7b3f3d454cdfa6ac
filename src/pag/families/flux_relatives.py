"""Models built like Flux."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
