"""Cosmos."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
