"""Mail in the memory of the CPU: any codec, memory, exchange and mixer."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from declora import cuda
from declora.errors import FrameError
from declora.exchange import Delivery, Exchange, Levelled, Routes
from declora.federation import Federation
from declora.inbox import Inbox
from declora.ledger import digest
from declora.mail.base import Mail, give_back, taken, timed
from declora.mail.reception import Reception, Taken
from declora.mixer.refusals import sit_out, without
from declora.plan import Columns, Mask, Plan, Rows
from declora.round_graph import Audience, CompleteGraph, RoundGraph
from declora.state import State
from declora.wire import Wire

__all__ = ["HostMail"]


class HostMail(Mail[Rows]):
    """Sends frames of rows that are arrays: on a CPU the rows themselves; from a GPU a copy in pinned memory.

    Args:
        federation: Who talks to whom, and how.
        exchange: What carries the frames, with the attackers in it.
        routes: Who hears which message.
        wire: What makes frames of rows, and checks them.
        origin: What everybody knows that known clients begin with, `[known clients, width]`.
        state: Of the run; what is remembered of rounds is kept in it.
        sent: The columns that the first round sends.
        digested: Whether an inbox shall have the digests of what clients sent.
    """

    def __init__(
        self,
        federation: Federation,
        exchange: Exchange,
        routes: Routes,
        wire: Wire,
        *,
        origin: torch.Tensor,
        state: State,
        sent: Columns,
        digested: bool,
    ) -> None:
        self._mixer, self._exchange, self._routes, self.wire = federation.mixer, exchange, routes, wire
        self._tolerant, self._digested = federation.tolerant, digested
        self._longest, self._past = federation.faults.longest, state.room("late")
        if self._longest:
            self._past["sent"] = np.zeros((len(routes.senders), self._longest, sent.count), dtype=np.float32)
        self._reception = Reception(federation.faults, wire, exchange, routes, self._past, sent=sent)
        self._pinned = torch.empty(0, dtype=torch.float32)
        first = origin.cpu().numpy()
        self.memory = federation.codec.memory(federation.codec.shrink, state.room("memory"))
        self.memory.start(routes.spread(first))
        self._here = slice(None) if routes.whole else routes.own
        self._mixer.place(self._here)
        self._mixer.start(sent.take(first), state.room("mixer"))

    def take(self, lifted: torch.Tensor, columns: Columns) -> Rows:
        """Returns the columns as an array, with zeros for known clients that are elsewhere."""
        if lifted.device.type == "cpu":
            return self._routes.placed(columns.take(lifted.numpy()))
        rows = taken(lifted, columns)
        if self._pinned.shape != rows.shape:
            self._pinned = torch.empty(rows.shape, dtype=torch.float32, pin_memory=True)
        # Pinned memory is copied at the full rate of the bus, and serves all rounds that send as much.
        return self._routes.placed(self._pinned.copy_(rows).numpy())

    def put(self, lifted: torch.Tensor, columns: Columns, rows: Rows) -> None:
        """Writes the array back; to a GPU the copy is queued, and nobody waits for it."""
        here = self._routes.here(rows)
        if lifted.device.type == "cpu":
            columns.put(lifted.numpy(), here)
        elif columns.whole and self._routes.whole:
            give_back(lifted, columns, self._pinned)
        else:
            give_back(lifted, columns, cuda.to_device(here, lifted.device))

    def swap(self, plan: Plan, rows: Rows, carried: NDArray[np.uint8] | None = None) -> Inbox:
        """Sends `rows [clients, sent columns]` in frames, and returns what arrived of them, checked."""
        t, columns, seconds = plan.event, plan.sent, dict[str, float]()
        levelled = self._exchange.level(t, self.memory.state if self.memory.needs_static_graph else None)
        if levelled is not None:
            self._reception.forget(t, levelled.anew)
            if self._longest:
                self._past["sent"][levelled.anew] = np.nan
        with timed(seconds, "encode"):
            with np.errstate(over="ignore"):  # what leaves the numbers here is cut, or named by the codec
                outgoing = self.memory.outgoing(self._exchange.told(t, self._mixer.sent(rows)), columns)
            outgoing = self._exchange.fitted(outgoing, self.wire.limit(columns))
            with self._exchange.explaining(t):
                chosen = None if carried is None else self._routes.placed(carried)[self._routes.places]
                frames = self.wire.encode(t, outgoing, columns, chosen)
            self._exchange.posted(t, self.wire.codecs(columns), frames)
        with timed(seconds, "exchange"):
            sizes, audience = self.wire.sizes(frames, columns), self._routes.audience(plan.graph)
            delivery = self._exchange.deliver(frames, sizes, audience, self._mixer.beside())
        with timed(seconds, "mix"):
            checked, silent = self.wire.check(t, delivery.frames, columns), self._silent(delivery, audience)
            self._refuse(t, {message: why for message, why in checked.faults.items() if not silent[message]})
            received = self._reception.take(plan, frames, checked, gone=delivery.gone, silent=silent)
            inbox = Inbox(
                self._routes.by_client(delivery.bytes_sent + (0 if received is None else received.bytes_again)),
                self._routes.graph(self._reached(plan, delivery, received), shares=self._mixer.shares),
                checked,
                carried=checked.carried(),
                unused={} if received is None else received.counts,
                here=self._here,
                seconds=seconds,
            )
            refused = checked.refused
            if not self.memory.lossless:
                inbox.values = self.memory.public(inbox.public(), columns)
                refused |= self._beyond(t, inbox.values)
                meant = self._routes.meant(outgoing, inbox.values)
                self.memory.remember(meant, inbox.values, refused | self._unheard(plan), columns)
                inbox.bytes_sent += self._catching_up(plan, levelled)
            inbox.late = self._late(plan, inbox, silent, received)
            inbox.refused = refused
            if self._digested:
                inbox.digests = self._digests(frames, sizes, audience)
            if self._tolerant:
                inbox.tolerated = self._routes.by_client(refused) > 0
        self._exchange.heard(t, inbox.public)
        return inbox

    def _late(
        self, plan: Plan, inbox: Inbox, silent: Mask, received: Taken | None
    ) -> tuple[tuple[sp.csr_array, Rows], ...]:
        """Returns what arrives of earlier rounds, and keeps this round's values for as long as they may be late.

        Of a message that did not come here nothing can be late: it has no numbers among those that are kept, and its
        weight stays at home, on both ends.
        """
        if not self._longest:
            return ()
        past, late = self._past["sent"], []
        assert isinstance(past, np.ndarray)
        for by, weights in plan.late:
            if received is not None:
                weights = received.heard(weights, by)
            values = past[:, (plan.event - by) % self._longest].copy()
            absent = silent | np.isnan(values).any(axis=1)
            values[absent] = 0
            late.append((sit_out(self._routes.weights(weights), absent), values))
        now = past[:, plan.event % self._longest]
        now[:] = inbox.public()
        now[silent] = np.nan
        return tuple(late)

    def _silent(self, delivery: Delivery, audience: Audience) -> Mask:
        """Returns which messages of clients elsewhere did not come here, bool `[messages]`."""
        silent: Mask = np.zeros(len(self._routes.senders), dtype=np.bool_)
        if not self._routes.whole:
            silent = audience.among(self._routes.are_here) == 0
            if delivery.gone is not None:
                silent |= delivery.gone[self._routes.senders]
            for own in self._routes.sent:
                silent[own] = False
        return silent

    def _reached(self, plan: Plan, delivery: Delivery, received: Taken | None) -> RoundGraph:
        """Returns the graph of those who can be reached, and of what was taken of them."""
        if delivery.gone is None and received is None:
            return plan.graph
        if delivery.gone is not None and received is None and isinstance(plan.graph, CompleteGraph):
            return plan.graph.without(delivery.gone, lambda: self._reached_by_pairs(plan, delivery, None))
        return RoundGraph(self._reached_by_pairs(plan, delivery, received))

    def _reached_by_pairs(self, plan: Plan, delivery: Delivery, received: Taken | None) -> sp.csr_array:
        """Returns the mixing matrix of the same."""
        weights = plan.weights
        if delivery.gone is not None:
            missing, shares = np.any(delivery.gone[plan.edges], axis=1), self._mixer.shares
            weights = without(weights, plan.edges, missing, least=self._mixer.least, to_sender=shares)
        return weights if received is None else received.heard(weights, 0)

    def _unheard(self, plan: Plan) -> Mask:
        """Returns which messages nobody has, bool `[messages]`, of those that had somewhere to go."""
        if plan.lost is None:
            return np.zeros(len(self._routes.senders), dtype=np.bool_)
        sent, lost = (
            np.bincount(self._routes.edges(pairs)[:, 0], minlength=len(self._routes.senders))
            for pairs in (plan.edges, plan.lost)
        )
        return np.asarray(sent == lost)

    def _catching_up(self, plan: Plan, levelled: Levelled | None) -> NDArray[np.int64]:
        """Returns the bytes of frames that bring receivers level with their senders' copies, int64 `[clients]`.

        Who missed a message has an older copy than the others until a frame brings it whole, in float32.

        Args:
            plan: Of the round.
            levelled: Copies that were told whole before the round; None: none were.
        """
        whole = self.wire.whole_bytes(plan.sent)
        sent = np.zeros_like(whole)
        if plan.behind is not None and self.memory.needs_static_graph:
            sent += np.bincount(self._routes.edges(plan.behind)[:, 0], minlength=len(whole)) * whole
        if levelled is not None:
            sent += levelled.told * self.wire.whole_bytes(Columns.all(plan.sent.width))
        return self._routes.by_client(sent)

    def _digests(
        self, frames: NDArray[np.uint8], sizes: NDArray[np.int64], audience: Audience
    ) -> tuple[str | None, ...]:
        """Returns the digest of the frames of each client here that somebody hears, one after the other."""
        told: dict[int, list[NDArray[np.uint8]]] = {client: [] for client in self._routes.senders.tolist()}
        for message in np.flatnonzero(audience.counts).tolist():
            told[int(self._routes.senders[message])].append(frames[message, : sizes[message]])
        return tuple(digest(*own) if own else None for own in list(told.values())[self._here])

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
