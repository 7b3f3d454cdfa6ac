"""Networks of `pag.families.flux2`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
