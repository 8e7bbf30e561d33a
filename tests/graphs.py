"""What the tests of the topology room share."""

import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

from declora.topology import WEIGHT_RULES, Topology

SYMMETRIC = ["ring", "torus", "path", "star", "complete", "hypercube", "random-regular", "erdos-renyi"]
SYMMETRIC += ["watts-strogatz", "base"]
DOUBLY = [rule for rule in WEIGHT_RULES if rule != "samples"]
"""The rules that make a doubly stochastic matrix of the graph alone."""


def dense(topology: Topology, t: int = 0) -> NDArray[np.float64]:
    return topology.weights(t).toarray()


def edges(topology: Topology, t: int = 0) -> list[tuple[int, int]]:
    return [(sender, receiver) for sender, receiver in topology.edges(t).tolist()]


def run_python(code: str, **environment: str) -> str:
    """What `code` prints in a fresh interpreter."""
    environment = {"PYTHONPATH": ":".join(sys.path), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def period_product(topology: Topology) -> NDArray[np.float64]:
    product = np.eye(topology.clients)
    for t in range(topology.period):
        product = dense(topology, t) @ product
    return product


def exists(name: str, clients: int) -> bool:
    """Whether the named topology with its default parameters exists for so many clients."""
    if clients == 1:
        return True
    if name == "torus":
        return any(clients % r == 0 for r in range(2, clients))
    if name == "hypercube":
        return clients & (clients - 1) == 0
    return clients > 4 if name in ("random-regular", "watts-strogatz") else True
