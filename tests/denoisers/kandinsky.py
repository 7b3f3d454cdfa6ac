"""Networks of `pag.families.kandinsky`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
