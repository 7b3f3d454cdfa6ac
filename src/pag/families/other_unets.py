"""U-Nets beside Stable Diffusion's."""

from pag.families._family import Family

FAMILIES: tuple[Family, ...] = ()
