"""Networks of `pag.families.class_conditional`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
