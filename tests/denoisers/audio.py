"""Networks of `pag.families.audio`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
