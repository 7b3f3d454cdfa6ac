"""Families that users add."""

from pag.families._family import Family

REGISTERED: list[Family] = []


def register(family: Family) -> Family:
    """Add a family, ahead of all others: a class that is known already can be described anew.

    Args:
        family: the facts. Only the class names and the sites have no default.

    Returns:
        The same family, for :func:`unregister`.

    Raises:
        TypeError: if it is no family, or its ``models`` are not names in a tuple.
    """
    if not isinstance(family, Family):
        raise TypeError(f"Expected a pag.families.Family, but got {family!r}.")
    if not isinstance(family.models, tuple) or not family.models:
        raise TypeError(f"models must be a tuple of class names, such as ('MyTransformer',), but is {family.models!r}.")
    REGISTERED.insert(0, family)
    return family


def unregister(family: Family) -> None:
    """Take a family back.

    Raises:
        ValueError: if it was not registered.
    """
    if family not in REGISTERED:
        raise ValueError(f"The family of {', '.join(family.models)} is not registered.")
    REGISTERED.remove(family)
