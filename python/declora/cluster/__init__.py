"""A cluster: one federation in several processes, each with some of the clients."""

from declora.cluster.cluster import Cluster, leads, of_environment
from declora.cluster.link import Kind, Link, LinkLost
from declora.cluster.site import Site, divide

__all__ = ["Cluster", "Kind", "Link", "LinkLost", "Site", "divide", "leads", "of_environment"]
