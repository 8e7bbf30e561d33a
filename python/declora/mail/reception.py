"""What receivers make of the frames that come: each message counts once, in its round or where it is awaited."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.exchange import Exchange, Routes
from declora.faults import Faults
from declora.mixer.refusals import at_home
from declora.plan import Arrivals, Columns, Mask, Plan
from declora.round_graph import Audience, RoundGraph
from declora.state import Room
from declora.wire import CheckedRound, Wire

__all__ = ["Reception", "Taken"]


@dataclass(frozen=True)
class Taken:
    """Which frames of a round were taken, and what the others were."""

    edges: NDArray[np.int32]
    """`[T, 2]`, (sender, receiver) of the messages that were taken; also of those of this round that are not what they
    should be, without which others will mix."""
    ago: NDArray[np.int64]
    """`[T]`: how many rounds ago each was sent."""
    stale: int
    """How many frames that came to clients here were refused since they are of an earlier round, whose messages nobody
    awaits any more."""
    repeated: int
    """How many of these were proper, but their message had been taken already."""
    bytes_again: NDArray[np.int64]
    """`[messages]`: bytes of the copies that were sent."""

    @property
    def counts(self) -> dict[str, int]:
        """How many frames were refused as stale, and as repeated, for the record of the round."""
        return {"frames_stale": self.stale, "frames_repeated": self.repeated}

    def heard(self, weights: sp.csr_array, ago: int) -> sp.csr_array:
        """Returns the weights `[clients, clients]` of messages of one round without those that were not taken."""
        receivers, senders = weights.tocoo().coords
        taken = _numbered(self.edges[self.ago == ago], weights.shape[0])
        pairs = np.stack([senders, receivers], axis=1)
        return at_home(weights, pairs[(senders != receivers) & ~np.isin(_numbered(pairs, weights.shape[0]), taken)])


class Reception:
    """Goes through the frames of a round in the order in which they come.

    A receiver has one place for each message that it expects: those of this round, and late ones that both ends
    await. The first frame that is what is expected there takes the place. Any other is refused: a copy, since the place
    is taken; a frame of an earlier round, since its header says so.

    Where a process has some clients of the run, it goes through the frames that come to them or from them. Copies go
    from process to process once more; what was overtaken has been there since its round.

    Args:
        faults: What goes wrong.
        wire: What checks frames.
        exchange: What carries copies.
        routes: Who hears which message.
        room: Keeps frames for as long as they may come.
        sent: The columns that the first round sends, and every other one where frames may come in later rounds.
    """

    def __init__(
        self, faults: Faults, wire: Wire, exchange: Exchange, routes: Routes, room: Room, *, sent: Columns
    ) -> None:
        self._reach = faults.reach if faults.stray else 0
        self._wire, self._exchange, self._routes, self._room = wire, exchange, routes, room
        self._since = routes.among_all(np.zeros(len(routes.known), dtype=np.int64))
        if self._reach:
            room["frames"] = np.zeros((len(routes.senders), self._reach, wire.width(sent)), dtype=np.uint8)

    def forget(self, t: int, anew: Mask) -> None:
        """Has nothing of rounds before round t come any more from these clients, nor to them.

        Args:
            t: Round, from 0.
            anew: Which of those that are known, `[messages]`.
        """
        self._since[self._routes.senders[anew]] = t
        if self._reach:
            past = self._room["frames"]
            assert isinstance(past, np.ndarray)
            past[anew] = 0

    def take(
        self,
        plan: Plan,
        frames: NDArray[np.uint8],
        checked: CheckedRound,
        *,
        gone: Mask | None = None,
        silent: Mask | None = None,
    ) -> Taken | None:
        """Returns which frames are taken in the round `plan`, and keeps this round's; None where all come once.

        Args:
            plan: Of the round.
            frames: What was sent in it, `[messages, frame bytes]`.
            checked: The same, checked.
            gone: Clients that cannot be reached any more, `[clients]`; None: nobody.
            silent: Messages that did not come here, `[messages]`; None: all did.
        """
        if plan.arrivals is None:
            return None
        arrivals = self._coming(plan.event, plan.arrivals, gone)
        messages = self._routes.edges(arrivals.edges)[:, 0]
        receivers, awaited = arrivals.edges[:, 1].astype(np.int64), self._awaited(plan, arrivals)
        proper: Mask = np.zeros(len(messages), dtype=np.bool_)
        again = np.zeros(len(frames), dtype=np.int64)
        for ago in np.unique(arrivals.ago).tolist():
            now, sent = arrivals.ago == ago, self._sent(plan.event - ago) if ago else frames
            if (copies := now & arrivals.again).any():
                edges = np.stack([messages, arrivals.edges[:, 1]], axis=1)[copies]
                sent = sent if self._routes.whole else sent.copy()  # of what was checked nobody may change a byte
                delivery = self._exchange.deliver(
                    sent, self._wire.sizes(sent, plan.sent), Audience.of(edges, len(sent))
                )
                sent, again = delivery.frames, again + delivery.bytes_sent
            for which, t in ((now & ~awaited, plan.event), (now & awaited, plan.event - ago)):
                if which.any():
                    expected = self._wire.check(t, sent, plan.sent) if ago else checked
                    proper[which] = ~expected.refused[messages[which]]
        self._keep(plan.event, frames, silent)
        due = np.where(awaited, arrivals.ago, 0)
        place = (due * len(frames) + messages) * plan.graph.clients + receivers
        first = np.flatnonzero(proper)[np.unique(place[proper], return_index=True)[1]]
        dealt = np.r_[first, np.flatnonzero(~proper & (arrivals.ago == 0))]
        here = np.isin(receivers, self._routes.here(self._routes.known))
        stale, repeated = (here & ~proper & (arrivals.ago > 0)).sum(), (here & proper).sum() - here[first].sum()
        return Taken(arrivals.edges[dealt], due[dealt], int(stale), int(repeated), again)

    def _coming(self, t: int, arrivals: Arrivals, gone: Mask | None) -> Arrivals:
        """Returns those of the frames of a round that come from known clients, and on links that are there."""
        if self._routes.whole:
            return arrivals
        edges, ago, again = arrivals.edges, arrivals.ago, arrivals.again
        there: Mask = np.isin(edges[:, 0], self._routes.known) & (t - ago >= self._since[edges].max(axis=1))
        if gone is not None:
            there &= ~gone[edges].any(axis=1)
        return Arrivals(edges[there], ago[there], again[there])

    def _awaited(self, plan: Plan, arrivals: Arrivals) -> Mask:
        """Returns which of the frames that come are of messages of earlier rounds that their receivers await."""
        awaited: Mask = np.zeros(len(arrivals.ago), dtype=np.bool_)
        pairs = _numbered(arrivals.edges, plan.graph.clients)
        for ago, weights in plan.late:
            awaited |= (arrivals.ago == ago) & np.isin(pairs, _numbered(RoundGraph(weights).edges, weights.shape[0]))
        return awaited

    def _sent(self, t: int) -> NDArray[np.uint8]:
        """Returns the frames of an earlier round."""
        past = self._room["frames"]
        assert isinstance(past, np.ndarray)
        return np.ascontiguousarray(past[:, t % self._reach])

    def _keep(self, t: int, frames: NDArray[np.uint8], silent: Mask | None) -> None:
        """Keeps the frames of a round, zeros of those that are not here, in the place of some that come no more."""
        if self._reach:
            past = self._room["frames"]
            assert isinstance(past, np.ndarray)
            past[:, t % self._reach] = frames
            if silent is not None:
                past[silent, t % self._reach] = 0


def _numbered(edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
    """Returns a number for each of `edges [E, 2]`."""
    numbers: NDArray[np.int64] = edges[:, 0].astype(np.int64) * clients + edges[:, 1]
    return numbers
