"""Sound, and what is neither image nor video."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
