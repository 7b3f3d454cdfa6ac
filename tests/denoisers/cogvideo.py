"""Networks of `pag.families.cogvideo`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
