"""RW-LoRA (arXiv 2609.00078): one adapter walks over the graph, and who holds it trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import seeds
from declora.methods.combining import Combining, check_one_hears
from declora.mixer import Mixer
from declora.plan import Phase, Plan
from declora.round_graph import RoundGraph

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import State
    from declora.topology import Topology

__all__ = ["RwLora"]


class RwLora(Combining):
    """The holder of a token trains its adapter, then sends it to a neighbour, who holds it next; nothing is averaged.

    The neighbour is drawn by a Metropolis-Hastings walk, from i to j with probability min(1 / deg_i, 1 / deg_j), else
    the token stays: every client holds it equally often in the long run. It begins at client 0. The walk is a function
    of the seed and the round. What is evaluated for all is the adapter of who holds the token after the round; the
    others still have what they sent when they last held it. A round sends one message or none.

    Moments are not sent, so each holder begins without: our choice, the source does not say.
    """

    name = "rw-lora"
    source = "arXiv 2609.00078"
    sets_graph = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation over whose graph the token walks.

        Raises:
            ConfigError: As `check_one_hears`: on edges of one way the walk would not be uniform, and of an attacker
                nobody would take the token; or a mixer.
        """
        federation = super().arrange(federation)
        check_one_hears(
            self,
            federation,
            both_ways="the token must be able to go back, to be with each client equally often",
            trusted="an attacker that holds the token has all there is",
        )
        self._walk = Walk(federation.topology, federation.seed)
        return federation

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which the holder trains, and the next one hears it."""
        holder, following = self._walk.place(plan.event), self._walk.place(plan.event + 1)
        clients = plan.graph.clients
        alone = np.arange(clients) == holder
        phases = tuple(Phase(np.where(alone, phase.steps, 0), phase.trained) for phase in plan.phases)
        heard = np.arange(clients)
        heard[following] = holder
        weights = sp.csr_array((np.ones(clients), (np.arange(clients), heard)), shape=(clients, clients))
        return replace(plan, phases=phases, graph=RoundGraph(weights), fresh=layout.whole)

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Puts what the next holder hears in the place of its own."""
        assert inbox.weights is not None
        heard = inbox.weights.tocoo()
        receivers, senders = heard.coords
        moved = receivers != senders
        rows[receivers[moved]] = inbox.public()[senders[moved]]

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns the adapter of the token's holder, float32 `[D]`."""
        return state.adapter[self._walk.place(state.event)].clone()


class Walk:
    """A Metropolis-Hastings walk over a graph, uniform in the long run; step t is drawn by (seed, t) alone."""

    def __init__(self, topology: Topology, seed: int) -> None:
        self._topology, self._seed = topology, seed
        self._places = [0]

    def place(self, t: int) -> int:
        """Returns where the walk is before step t."""
        while len(self._places) <= t:
            self._places.append(self._step(len(self._places) - 1))
        return self._places[t]

    def _step(self, t: int) -> int:
        here, graph = self._places[t], self._topology.round(t)
        degrees, neighbours = graph.audience.counts, graph.receivers(here)
        chances = np.minimum(1 / degrees[here], 1 / degrees[neighbours]) if len(neighbours) else np.empty(0)
        drawn = seeds.generator(self._seed, "walk", t).random()
        at = int(np.searchsorted(np.cumsum(chances), drawn, side="right"))
        return int(neighbours[at]) if at < len(neighbours) else here
