"""Small federations without a model: what the tests of gossip, mixers and attacks build."""

from dataclasses import replace

import numpy as np
import torch

from declora.attacks import parse_attack
from declora.codec import parse_codec
from declora.exchange import Delivery, LocalExchange
from declora.faults import Faults, parse_faults
from declora.federation import Federation
from declora.gossip import Gossip
from declora.methods import build_method
from declora.mixer import parse_mixer
from declora.model import Block, Layout
from declora.plan import Phase, Plan
from declora.state import State
from declora.topology import Topology

RUN_ID = b"r" * 16


def federation_of(
    topology="ring",
    *,
    clients=10,
    codec="none",
    mixer="linear",
    attack=None,
    attackers=(),
    exchange=None,
    seed=1,
    faults=None,
    overlap=False,
) -> Federation:
    """A federation with one sample a client; `topology`, `mixer` and `attack` are names or what they stand for."""
    graph = topology if isinstance(topology, Topology) else Topology.build(topology, clients, seed=seed)
    rule = parse_mixer(mixer) if isinstance(mixer, str) else mixer
    rule.check(graph)
    lies = attack
    if isinstance(attack, str):
        lies = parse_attack(attack, list(attackers), clients=graph.clients, seed=0)
    shards = tuple(np.arange(1) for _ in range(graph.clients))
    wrong = Faults() if faults is None else parse_faults(faults, seed=seed)
    wrong = replace(wrong, least=rule.least, column_stochastic=graph.column_stochastic)
    return Federation(
        graph.clients, 1, graph, parse_codec(codec), exchange or LocalExchange(), rule, lies, wrong, shards=shards,
        overlap=overlap,
    )  # fmt: skip


class GossipAlone:
    """Rounds of gossip of rows that nobody trains.

    Attributes:
        gossip: What the rounds are of.
        state: What is remembered between them.
    """

    def __init__(self, federation, start, *, gamma, seed, run_id, method, version, layout):
        self.federation, self.method = federation, build_method(method)
        self.layout = layout or Layout([Block("x", (start.shape[1],), "A", 0)])
        self.state = State(start.clone(), run_id=run_id)
        self.method.begin(self.state, self.layout)
        self.gossip = Gossip(
            federation, self.method, self.layout, self.state, sent=self.plan(0).sent, gamma=gamma, version=version,
            seed=seed,
        )  # fmt: skip

    @property
    def memory(self):
        return self.gossip.mail.memory

    @property
    def names(self):
        """What the headers of every round say."""
        return self.gossip.mail.wire._names

    def round(self, t, rows):
        """Mixes `rows [clients, D]` in place with the neighbours of round t; returns what arrived."""
        self.state.rooms["adapter"]["adapter"] = rows
        return self.gossip.round(self.plan(t), self.state, self.method)

    def plan(self, t):
        """Round t without local steps, as the method has it."""
        topology, whole = self.federation.topology, self.layout.whole
        phase = Phase(np.zeros(self.federation.clients, dtype=np.int64), whole)
        plan = Plan(t, (phase,), whole, topology.round(t))
        return self.federation.faults.strike(self.method.plan(plan, self.layout)).plan


def gossip_of(
    federation, start, *, gamma=None, seed=0, run_id=RUN_ID, method="dec-lora", version="1", layout=None
) -> GossipAlone:
    """The gossip of a federation whose clients begin with the rows `start`; the run id is drawn where it is None."""
    return GossipAlone(
        federation, start, gamma=gamma, seed=seed, run_id=run_id, method=method, version=version, layout=layout
    )


def rows_of(clients, columns, *, centre=0.0, seed=0) -> torch.Tensor:
    """Normal numbers around `centre`, float32 `[clients, columns]`."""
    return centre + torch.randn(clients, columns, generator=torch.Generator().manual_seed(seed))


class Damaged(LocalExchange):
    """Flips a bit of the payload of some clients' messages in some rounds (0-based)."""

    def __init__(self, clients, rounds):
        self.clients, self.rounds, self.t = list(clients), set(rounds), -1

    def deliver(self, frames, sizes, audience, beside=None) -> Delivery:
        self.t += 1
        frames = frames.copy()
        if self.t in self.rounds:
            frames[self.clients, 130] ^= 1
        return Delivery(frames, super().deliver(frames, sizes, audience).bytes_sent)


class Recorded(LocalExchange):
    """Keeps the frames and edges of every round."""

    def __init__(self):
        self.frames, self.edges = [], []

    def deliver(self, frames, sizes, audience, beside=None) -> Delivery:
        self.frames.append(frames.copy())
        self.edges.append(np.array(audience.pairs))
        return super().deliver(frames, sizes, audience)
