"""Sana and its relatives: linear attention."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
