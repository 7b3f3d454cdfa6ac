"""Networks of `pag.families.flux_relatives`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
