"""Transformers that are conditioned on a class."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
