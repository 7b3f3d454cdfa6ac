"""CogView and GLM-Image."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
