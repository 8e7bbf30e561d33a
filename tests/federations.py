"""Small federations without a model: what the tests of gossip, mixers and attacks build."""

import numpy as np
import torch

from declora.attacks import parse_attack
from declora.codec import parse_codec
from declora.exchange import Delivery, LocalExchange
from declora.gossip import Gossip
from declora.methods import Federation
from declora.mixer import parse_mixer
from declora.topology import Topology

MANIFEST = b"m" * 16


def federation_of(
    topology="ring", *, clients=10, codec="none", mixer="linear", attack=None, attackers=(), exchange=None, seed=1
) -> Federation:
    """A federation with one sample a client; `topology`, `mixer` and `attack` are names or what they stand for."""
    graph = topology if isinstance(topology, Topology) else Topology.build(topology, clients, seed=seed)
    rule = parse_mixer(mixer) if isinstance(mixer, str) else mixer
    rule.check(graph)
    lies = attack
    if isinstance(attack, str):
        lies = parse_attack(attack, list(attackers), clients=graph.clients, seed=0)
    shards = tuple(np.arange(1) for _ in range(graph.clients))
    return Federation(shards, 1, graph, parse_codec(codec), exchange or LocalExchange(), rule, lies)


def gossip_of(federation, start, *, gamma=None, seed=0) -> Gossip:
    """The gossip of a federation whose clients begin with the rows `start`."""
    return Gossip(federation, start, gamma=gamma, manifest=MANIFEST, seed=seed)


def rows_of(clients, columns, *, centre=0.0, seed=0) -> torch.Tensor:
    """Normal numbers around `centre`, float32 `[clients, columns]`."""
    return centre + torch.randn(clients, columns, generator=torch.Generator().manual_seed(seed))


class Damaged(LocalExchange):
    """Flips a bit of the payload of some clients' messages in some rounds (0-based)."""

    def __init__(self, clients, rounds):
        self.clients, self.rounds, self.t = list(clients), set(rounds), -1

    def deliver(self, frames, sizes, edges) -> Delivery:
        self.t += 1
        frames = frames.copy()
        if self.t in self.rounds:
            frames[self.clients, 130] ^= 1
        return Delivery(frames, super().deliver(frames, sizes, edges).bytes_sent)


class Recorded(LocalExchange):
    """Keeps the frames and edges of every round."""

    def __init__(self):
        self.frames, self.edges = [], []

    def deliver(self, frames, sizes, edges) -> Delivery:
        self.frames.append(frames.copy())
        self.edges.append(np.array(edges))
        return super().deliver(frames, sizes, edges)
