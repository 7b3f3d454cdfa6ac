"""LTX-Video and LTX-2."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
