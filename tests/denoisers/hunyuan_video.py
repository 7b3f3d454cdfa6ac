"""Networks of `pag.families.hunyuan_video`."""

from tests.denoisers._network import Network

NETWORKS: dict[str, Network] = {}
