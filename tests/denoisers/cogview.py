"""Networks of `pag.families.cogview`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
