"""Kandinsky's transformers."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
