"""CogVideoX, Mochi and other videos with joint attention."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
