"""Networks of `pag.families.cosmos`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
