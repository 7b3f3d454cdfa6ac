"""Networks of `pag.families.ltx`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
