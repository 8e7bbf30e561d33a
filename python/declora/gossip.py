"""Gossip: what clients send in a round, what arrives of it, and how each combines it with its own."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from declora import seeds
from declora.federation import Federation
from declora.inbox import Inbox
from declora.mail import CardMail, HostMail, Mail, stays_on_card
from declora.mail.base import timed
from declora.methods import Stack
from declora.model import Layout
from declora.plan import Columns, Plan
from declora.state import State
from declora.wire import Wire

__all__ = ["Gossip"]


class Gossip:
    """The gossip of all clients of a process: its exchange, its mail, its mixer.

    Args:
        federation: Who talks to whom, and how.
        method: What is combined.
        layout: The columns of the adapters.
        state: Of the run, which is at its start; what is remembered of rounds is kept in it.
        sent: The columns that the first round sends.
        gamma: Consensus step size; the codec's default where None.
        version: Of this software: sites of different ones do not understand each other.
        seed: The run's seed, of the codec's random streams.
        digested: Whether what arrives in a round shall have the digests of what clients sent. They are of frames, which
            are then made on a GPU, too.
        origin: What everybody knows that known clients begin with, where some of them are elsewhere; None: what clients
            here begin with.

    Attributes:
        mail: What takes rows to the others and brings theirs, for as long as clients talk at all.
    """

    def __init__(
        self,
        federation: Federation,
        method: Stack,
        layout: Layout,
        state: State,
        *,
        sent: Columns,
        gamma: float | None,
        version: str,
        seed: int,
        digested: bool = False,
        origin: torch.Tensor | None = None,
    ) -> None:
        self._mixer, self._exchange, self._detector = federation.mixer, federation.lying, federation.detector
        self._gamma = federation.codec.default_gamma if gamma is None else gamma
        self._seen, self._honest = state.room("detector"), federation.honest
        if self._exchange.silent:
            return
        self._layout = method.lifted(layout)
        routes = self._exchange.begin(federation.clients, federation.topology.matrices, state.room("attack"))
        draws = seeds.derive(seed, "codec")
        wire = Wire(
            federation.codec,
            self._layout,
            routes.senders,
            run_id=state.run_id,
            manifest={
                "codec": federation.codec,
                "mixer": federation.mixer,
                "method": method,
                "gamma": self._gamma,
                "version": version,
            },
            seed=draws,
            ranks=federation.ranks or None,
            units=method.units(layout),
            own=routes.own,
        )
        self.mail: Mail[Any]
        if not digested and stays_on_card(federation, method, state.adapter.device):
            self.mail = CardMail(federation, wire, seed=draws, device=state.adapter.device)
        else:
            origin = method.origin(state) if origin is None else origin
            self.mail = HostMail(
                federation, self._exchange, routes, wire, origin=origin, state=state, sent=sent, digested=digested
            )

    def round(self, plan: Plan, state: State, method: Stack) -> Inbox:
        """Lifts what clients have after their local steps, exchanges it, combines it, and takes it back into `state`.

        Raises:
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
            TrainingError: What some clients lied moved others out of the numbers that can be computed or sent.
        """
        if self._exchange.silent:
            return Inbox(np.zeros(len(state.adapter), dtype=np.int64))
        seconds: dict[str, float] = {}
        with timed(seconds, "encode"):
            lifted = method.lift(state, plan)
        carried = method.carried(state, plan)
        rows = self.mail.take(lifted, plan.sent)
        inbox = self.mail.swap(plan, rows, None if carried is None else plan.sent.take(carried))
        inbox.seconds["encode"] = inbox.seconds.get("encode", 0.0) + seconds["encode"]
        with timed(inbox.seconds, "mix"):
            if self._detector is not None and inbox.weights is not None:
                inbox.suspected = self._detector.suspected(
                    inbox.weights, inbox.public(), self._seen, judges=self._honest
                )
            method.mix(self._mixer, inbox, rows, layout=self._layout, gamma=self._gamma)
            self._exchange.settle(plan.event, rows)
            self.mail.put(lifted, plan.sent, rows)
            method.refit(state, lifted, plan)
        return inbox

    def explaining(self, t: int) -> AbstractContextManager[None]:
        """Adds to an error in round t what the exchange knows of its cause."""
        return self._exchange.explaining(t)
