"""Gossip: what clients send in a round, what arrives of it, and how each combines it with its own."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

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


class _Ahead(NamedTuple):
    """Gossip of a round that goes on while local steps are taken."""

    sent: torch.Tensor
    """What clients had before the steps, `[clients, D]`."""
    mixed: torch.Tensor
    """What gossip makes of it, once there is an inbox."""
    inbox: Future[Inbox]


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
        self._ahead: _Ahead | None = None
        self._thread: ThreadPoolExecutor | None = None
        if self._exchange.silent:
            return
        if federation.overlap:
            self._thread = ThreadPoolExecutor(1, "gossip", initializer=_compute_on, initargs=(state.adapter.device,))
        self._layout = method.lifted(layout)
        routes = self._routes = self._exchange.begin(
            federation.clients, federation.topology.matrices, state.room("lies")
        )
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
            sent=routes.sent,
        )
        self.mail: Mail[Any]
        if not digested and stays_on_card(federation, method, state.adapter.device):
            self.mail = CardMail(federation, wire, seed=draws, device=state.adapter.device)
        else:
            origin = method.origin(state) if origin is None else origin
            self.mail = HostMail(
                federation, self._exchange, routes, wire, origin=origin, state=state, sent=sent, digested=digested
            )

    @contextmanager
    def meanwhile(self, plan: Plan, state: State, method: Stack) -> Iterator[None]:
        """Begins a round while its local steps are taken, where messages are to go then.

        Adds to an error of the steps what the exchange knows of its cause.
        """
        if self._thread is not None:
            sent = method.lift(state, plan).clone()
            mixed = sent.clone()
            self._ahead = _Ahead(sent, mixed, self._thread.submit(self._combine, plan, mixed, None, method))
        with self._exchange.explaining(plan.event):
            yield

    def round(self, plan: Plan, state: State, method: Stack) -> Inbox:
        """Lifts what clients have after their local steps, exchanges it, combines it, and takes it back into `state`.

        What was exchanged meanwhile moves them by what became of what they had before.

        Raises:
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
            TrainingError: What some clients lied moved others out of the numbers that can be computed or sent.
        """
        if self._exchange.silent:
            return Inbox(np.zeros(len(state.adapter), dtype=np.int64))
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            inbox = ahead.inbox.result()
            with timed(inbox.seconds, "mix"):
                state.adapter.add_(ahead.mixed.sub_(ahead.sent))
            return inbox
        seconds: dict[str, float] = {}
        with timed(seconds, "encode"):
            lifted = method.lift(state, plan)
        inbox = self._combine(plan, lifted, method.carried(state, plan), method)
        inbox.seconds["encode"] = inbox.seconds.get("encode", 0.0) + seconds["encode"]
        with timed(inbox.seconds, "mix"):
            method.refit(state, lifted, plan)
        return inbox

    def _combine(self, plan: Plan, lifted: torch.Tensor, carried: NDArray[np.uint8] | None, method: Stack) -> Inbox:
        """Exchanges `lifted [clients, width]` and combines it, in place; `carried` says which columns messages have."""
        rows = self.mail.take(lifted, plan.sent)
        inbox = self.mail.swap(plan, rows, None if carried is None else plan.sent.take(carried))
        with timed(inbox.seconds, "mix"):
            if self._detector is not None and inbox.weights is not None:
                found = self._detector.suspected(
                    inbox.weights, inbox.public(), self._seen, judges=self._routes.places_here(self._honest)
                )
                inbox.suspected = self._routes.among_all(found)
            method.mix(self._mixer, inbox, rows, layout=self._layout, gamma=self._gamma)
            self._exchange.settle(plan.event, rows)
            self.mail.put(lifted, plan.sent, rows)
        return inbox


def _compute_on(device: torch.device) -> None:
    """Has a new thread compute on the GPU of the others, which it does not know of."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
