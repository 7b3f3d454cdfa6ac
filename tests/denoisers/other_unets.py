"""Networks of `pag.families.other_unets`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
