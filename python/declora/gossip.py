"""Gossip: what clients send in a round, what arrives of it, and how each combines it with its own."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

from declora import seeds
from declora.errors import FrameError
from declora.federation import Federation
from declora.inbox import Inbox
from declora.methods import Stack
from declora.model import Layout
from declora.plan import Columns, Mask, Plan, Rows
from declora.state import State
from declora.wire import Wire

__all__ = ["Gossip"]


class Gossip:
    """The gossip of all clients of a process: its exchange, its codec's memory, its wire, its mixer.

    Args:
        federation: Who talks to whom, and how.
        method: What is combined.
        layout: The columns of the adapters.
        state: Of the run, which is at its start; what is remembered of rounds is kept in it.
        sent: The columns that the first round sends.
        gamma: Consensus step size; the codec's default where None.
        version: Of this software: sites of different ones do not understand each other.
        seed: The run's seed, of the codec's random streams.
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
    ) -> None:
        self._mixer, self._exchange = federation.mixer, federation.lying
        self._tolerant = federation.tolerant
        self._gamma = federation.codec.default_gamma if gamma is None else gamma
        self._host: torch.Tensor | None = None
        if self._exchange.silent:
            return
        self._layout = method.lifted(layout)
        self._routes = self._exchange.begin(federation.clients, federation.topology.matrices, state.room("attack"))
        first = method.origin(state).cpu().numpy()
        self._memory = federation.codec.memory(federation.codec.shrink, state.room("memory"))
        self._memory.start(self._routes.spread(first))
        self._mixer.start(sent.take(first), state.room("mixer"))
        self._wire = Wire(
            federation.codec,
            self._layout,
            self._routes.senders,
            run_id=state.run_id,
            manifest={
                "codec": federation.codec,
                "mixer": federation.mixer,
                "method": method,
                "gamma": self._gamma,
                "version": version,
            },
            seed=seeds.derive(seed, "codec"),
            ranks=federation.ranks or None,
        )

    def round(self, plan: Plan, state: State, method: Stack) -> Inbox:
        """Lifts what clients have after their local steps, exchanges it, combines it, and takes it back into `state`.

        Raises:
            FrameError: A message is not what it should be, and nobody was said to lie or guarded against.
            TrainingError: What some clients lied moved others out of the numbers that can be computed or sent.
        """
        if self._exchange.silent:
            return Inbox(np.zeros(len(state.adapter), dtype=np.int64))
        lifted = method.lift(state, plan)
        host = self._fetch(lifted)
        rows = plan.sent.take(host)
        inbox = self._swap(plan, rows)
        with _timed(inbox.seconds, "mix"):
            method.mix(self._mixer, inbox, rows, layout=self._layout, gamma=self._gamma)
            self._exchange.settle(plan.event, rows)
            plan.sent.put(host, rows)
            if self._host is not None:
                lifted.copy_(self._host, non_blocking=True)
            method.refit(state, lifted, plan)
        return inbox

    def explaining(self, t: int) -> AbstractContextManager[None]:
        """Adds to an error in round t what the exchange knows of its cause."""
        return self._exchange.explaining(t)

    def _swap(self, plan: Plan, rows: Rows) -> Inbox:
        """Sends `rows [clients, sent columns]` in frames, and returns what arrived of them."""
        t, columns, seconds = plan.event, plan.sent, dict[str, float]()
        with _timed(seconds, "encode"):
            with np.errstate(over="ignore"):  # what leaves the numbers here is cut, or named by the codec
                outgoing = self._memory.outgoing(self._exchange.told(t, self._mixer.sent(rows)), columns)
            outgoing = self._exchange.fitted(outgoing, self._wire.limit(columns))
            with self.explaining(t):
                frames = self._wire.encode(t, outgoing, columns)
            self._exchange.posted(self._wire.codecs(columns), frames)
        with _timed(seconds, "exchange"):
            sizes = self._wire.sizes(frames, columns)
            delivery = self._exchange.deliver(frames, sizes, self._routes.edges(plan.edges))
        with _timed(seconds, "mix"):
            checked = self._wire.check(t, delivery.frames, columns)
            self._refuse(t, checked.faults)
            inbox = Inbox(
                self._routes.by_client(delivery.bytes_sent),
                self._routes.weights(plan.weights),
                checked,
                seconds=seconds,
            )
            refused = checked.refused
            if not self._memory.lossless:
                inbox.values = self._memory.public(inbox.public(), columns)
                refused |= self._beyond(t, inbox.values)
                self._memory.remember(outgoing, inbox.values, refused, columns)
            inbox.refused = refused
            if self._tolerant:
                inbox.tolerated = self._routes.by_client(refused) > 0
        return inbox

    def _beyond(self, t: int, public: Rows) -> Mask:
        """Returns which messages would move their public values, `[messages, D]`, out of the finite numbers.

        Each adds to what the ones before it left: a sum of proper messages need not be a proper value.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            beyond: Mask = ~np.isfinite(public.sum(axis=1))  # one pass; a sum may leave the finite numbers by itself
        for message in np.flatnonzero(beyond).tolist():
            beyond[message] = not np.isfinite(public[message]).all()
        why = "it would move its sender's public copy out of the finite numbers."
        self._refuse(t, dict.fromkeys(np.flatnonzero(beyond).tolist(), why))
        return beyond

    def _refuse(self, t: int, faults: dict[int, str]) -> None:
        """Ends the run for messages that are refused, unless it goes on without them."""
        if faults and not self._tolerant:
            message, why = next(iter(faults.items()))
            client = self._routes.senders[message]
            raise FrameError(f"round {t + 1}: the message of client {client} was refused: {why}")

    def _fetch(self, values: torch.Tensor) -> Rows:
        """Returns `values` as an array: itself on the CPU; from a GPU, a copy in pinned memory that serves all rounds.

        Pinned memory is copied at the full rate of the bus; the way back is queued before the next local step, so the
        CPU need not wait for it.
        """
        if values.device.type == "cpu":
            return values.numpy()
        if self._host is None:
            self._host = torch.empty(values.shape, pin_memory=True)
        self._host.copy_(values)
        return self._host.numpy()


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
