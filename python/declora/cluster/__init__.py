"""A cluster: one federation in several processes, each with some of the clients."""

from typing import TYPE_CHECKING

from declora.cluster.messages import Kind, LinkLost
from declora.cluster.site import Site, divide, hosts
from declora.lazily import exports

if TYPE_CHECKING:
    from declora.cluster.cluster import Cluster, leads, of_environment
    from declora.cluster.link import Link

__all__ = ["Cluster", "Kind", "Link", "LinkLost", "Site", "divide", "hosts", "leads", "of_environment"]

# Those that load torch, which what only divides clients need not wait for.
__getattr__ = exports(__name__, {"Cluster": "cluster", "Link": "link", "leads": "cluster", "of_environment": "cluster"})
