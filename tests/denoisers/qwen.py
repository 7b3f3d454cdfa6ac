"""Networks of `pag.families.qwen`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
