"""Networks of `pag.families.single_stream`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
