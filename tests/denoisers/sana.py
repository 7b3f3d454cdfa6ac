"""Networks of `pag.families.sana`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
