"""AD-PSGD (arXiv 1710.06952): nobody waits; who is done with its steps averages with one neighbour, and goes on."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import seeds
from declora.errors import ConfigError
from declora.methods.combining import Combining, check_one_hears
from declora.plan import Phase, Plan
from declora.round_graph import RoundGraph

if TYPE_CHECKING:
    import torch

    from declora.clock import Clock
    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["AdPsgd", "Turns"]


class AdPsgd(Combining):
    """Clients never wait: a round is one client's K local steps, then an average of it and one neighbour.

    Rounds come in the order in which clients are done, by the speeds of the clock, or without one as if all were as
    fast, those who are done together in an order of the seed; so n rounds are about what one round of the others is.
    Client i took its steps from y_i, what it had when it began them. Meanwhile others may have averaged with it, so

        x_i <- x_i + (steps(y_i) - y_i),    then x_i, x_j <- x_i + gamma/2 (z_j - z_i), x_j + gamma/2 (z_i - z_j),

    and y_i <- x_i: no average and no step is lost, and the sum over clients moves by steps alone. The neighbour j is
    drawn by the seed; it goes on with its own steps. Its message and the answer take no time of anybody's (the paper
    sends while it computes). The paper takes one step a round; K of them are our choice.
    """

    name = "ad-psgd"
    source = "arXiv 1710.06952"
    sets_graph = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation whose clients average with one neighbour at a time.

        Raises:
            ConfigError: As `check_one_hears`; or a mixer, or clients that count by their samples, which an average of
                two does not know.
        """
        federation = super().arrange(federation)
        check_one_hears(
            self,
            federation,
            both_ways="two clients average with each other",
            trusted="a client hears one other at a time",
        )
        topology = federation.topology
        if topology.law is not None or federation.weighing is not None:
            raise ConfigError(
                f"weights='samples' has clients count by their samples, but with method={self.name!r} two clients meet "
                "in the middle. Leave weights out."
            )
        self._topology, self._seed, self._clock = topology, federation.seed, federation.clock
        self._turns: Turns | None = None
        return federation

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round of the client that is done next, and of the neighbour that it averages with."""
        if self._turns is None:
            self._turns = Turns(plan.steps, self._seed, self._clock)
        client, seconds = self._turns.at(plan.event)
        alone = np.arange(plan.graph.clients) == client
        phases = tuple(Phase(np.where(alone, phase.steps, 0), phase.trained) for phase in plan.phases)
        neighbours = self._topology.round(plan.event).receivers(client)
        pair = [client]
        if len(neighbours):
            pair.append(int(seeds.generator(self._seed, "partner", plan.event).choice(neighbours)))
        weights = _averaged(pair, len(alone))
        return replace(plan, phases=phases, graph=RoundGraph(weights), seconds=seconds)

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns y, what each client had when it began the steps that it is at."""
        return {"begun": state.adapter.clone()}

    def before_round(self, state: State, plan: Plan) -> None:
        """Has the client take its steps from where it began them."""
        done, begun = _done(plan), self._begun(state)
        self._moved = state.adapter[done] - begun[done]
        state.adapter[done] = begun[done]

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns the adapters, the client's with what others did to it meanwhile."""
        state.adapter[_done(plan)] += self._moved
        return state.adapter

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Has the client begin its next steps."""
        done = _done(plan)
        self._begun(state)[done] = state.adapter[done]

    def _begun(self, state: State) -> torch.Tensor:
        return cast("torch.Tensor", state.room(self.name)["begun"])


def _averaged(some: list[int], clients: int) -> sp.csr_array:
    """Returns the mixing matrix `[clients, clients]` of which only some have the mean of theirs."""
    others = np.setdiff1d(np.arange(clients), some)
    receivers, senders = (np.concatenate([pairs.ravel(), others]) for pairs in np.meshgrid(some, some))
    shares = np.concatenate([np.full(len(some) ** 2, 1 / len(some)), np.ones(len(others))])
    return sp.csr_array((shares, (receivers, senders)), shape=(clients, clients))


def _done(plan: Plan) -> list[int]:
    """Returns the row of the client that takes the steps of a round; none where it is elsewhere."""
    found: list[int] = np.flatnonzero(plan.steps).tolist()
    return found


class Turns:
    """Which client is done next, and when, all beginning at 0 and none ever waiting.

    Args:
        steps: `[clients]`: local steps of each before it is done.
        seed: The run's.
        clock: How fast clients are; None: all alike.
    """

    def __init__(self, steps: NDArray[np.int64], seed: int, clock: Clock | None = None) -> None:
        self._seed, self._clock = seed, clock
        seconds = np.ones(len(steps)) if clock is None else clock.speeds.steps(len(steps))
        self._seconds = seconds * steps
        self._known: list[tuple[int, float]] = []
        self._coming: list[tuple[float, int, float, int]] = []
        for client in range(len(steps)):
            self._begin(client, 0, 0.0)

    def at(self, event: int) -> tuple[int, float | None]:
        """Returns who is done in this round, and after how many seconds of the clock; None without one."""
        while len(self._known) <= event:
            when, turn, _, client = heapq.heappop(self._coming)
            self._known.append((client, when))
            self._begin(client, turn + 1, when)
        client, when = self._known[event]
        return client, None if self._clock is None else when

    def _begin(self, client: int, turn: int, when: float) -> None:
        slowed = 1.0 if self._clock is None else self._clock.slowed(client, turn)
        among_equals = seeds.generator(self._seed, "turn", client, turn).random()
        # At one time, who had fewer turns goes first: else steps that take no time could be one client's alone.
        heapq.heappush(self._coming, (when + self._seconds[client] * slowed, turn, among_equals, client))
