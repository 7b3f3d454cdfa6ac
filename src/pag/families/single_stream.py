"""Joint attention of one sequence that holds text and image."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
