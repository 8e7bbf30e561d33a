"""An exchange between ranks: clients here talk to each other in memory, and by messages to those of other ranks."""

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.cluster import Kind, Site
from declora.errors import FrameError
from declora.exchange.base import Delivery, Exchange, Levelled
from declora.exchange.routes import Routes
from declora.plan import Rows
from declora.round_graph import Audience, CompleteGraph, RoundGraph

if TYPE_CHECKING:
    from declora.cluster import Cluster

__all__ = ["SpreadExchange", "known_to", "neighbouring"]


class SpreadExchange(Exchange):
    """Every client sends its frame to each of its neighbours; all that goes from one rank to another is one message.

    A rank has taken another's frames in a round iff that one knows it: so where either does not hear the other in time,
    both take it that nothing went between them, in that round and in all that follow.

    A message between ranks has 24 bytes of a header and 8 for each frame in it, beside the frames, 16 where a number
    goes with each; and another header says that it has arrived.

    Args:
        cluster: The ranks.
        sites: Which clients each has.
        graphs: Of the rounds of one period.
        exchange: The one that it stands for, which knows what messages cost. What a server would compute of all
            messages, each rank computes for its own clients.
        liars: Clients that know what all others have: it comes to their ranks.
    """

    def __init__(
        self,
        cluster: "Cluster",
        sites: Sequence[Site],
        graphs: Sequence[RoundGraph],
        exchange: Exchange,
        liars: Sequence[int] = (),
    ) -> None:
        self._cluster, self._sites, self._exchange = cluster, sites, exchange
        self._knowing = _having(sites, liars)
        self._everyone = np.empty((0, 0), dtype=np.float32)
        self.served = exchange.served
        own = sites[cluster.rank]
        known = known_to(own, graphs)
        first = int(np.searchsorted(known, own.start))
        self.routes = Routes(own.clients, known=known, own=slice(first, first + own.stop - own.start))
        """Which messages are known here."""
        self._rank = np.repeat(np.arange(len(sites)), [site.stop - site.start for site in sites])
        self._graphs, self._t = graphs, 0

    def begin(self, clients: int, matrices: Sequence[sp.csr_array], past: dict[str, Any]) -> Routes:
        """Returns which messages are known here."""
        return self.routes

    def tell_apart(self, clients: int, private: NDArray[np.int32]) -> Routes:
        """Returns which messages are known here, among those that one client alone hears, too."""
        self.routes = Routes(clients, private, known=self.routes.known, own=self.routes.own)
        return self.routes

    def level(self, t: int, copies: Rows | None) -> Levelled | None:
        """Tells ranks that take part again from round t what is kept of clients here, and hears that of theirs.

        Raises:
            FrameError: A rank sent something else than the copies that are due.
        """
        self._t = t
        back = self._cluster.returns.enter(t)
        if not back:
            return None
        senders = self._rank[self.routes.senders]
        told, anew = np.zeros(len(senders), dtype=np.int64), np.isin(senders, list(back))
        if copies is None:
            return Levelled(told, anew)
        own = self._cluster.rank
        audience, others = self.routes.audience(self._all), sorted(back - {own})
        for rank in others:
            out = np.where(senders == own, audience.among(self._rank == rank), 0)
            told += out
            if out.any():
                self._cluster.links[rank].send(Kind.COPIES, t, copies[out > 0].view(np.uint8).ravel())
        heard = audience.among(self._rank == own) > 0
        for rank in others:
            theirs = np.flatnonzero(heard & (senders == rank))
            if len(theirs) and (content := self._cluster.hear(rank, Kind.COPIES, t)) is not None:
                if len(content) != len(theirs) * copies[0].nbytes:
                    raise FrameError(f"rank {rank} sent {len(content)} bytes of copies where others are due.")
                copies[theirs] = content.view(np.float32).reshape(len(theirs), -1)
        return Levelled(told, anew)

    @cached_property
    def _all(self) -> RoundGraph:
        """Who hears whom in some round."""
        for graph in self._graphs:
            if len(self._graphs) == 1 or isinstance(graph, CompleteGraph):
                return graph
        edges = np.unique(np.concatenate([graph.edges for graph in self._graphs]), axis=0)
        return RoundGraph(self._graphs[0].weights, edges)

    def everyone(self, t: int, rows: Rows, *, after: bool) -> Rows | None:
        """Tells ranks with liars what clients here have, and returns what all have where there is one here.

        Of clients whose rank is lost liars know what they had last.

        Raises:
            FrameError: A rank sent something else than the rows that are due.
        """
        own, number = np.ascontiguousarray(self.routes.here(rows)), 2 * t + after
        said = own.tobytes()  # of this moment: they will be mixed before all have taken them
        for rank in self._knowing - {self._cluster.rank}:
            self._cluster.links[rank].send(Kind.ROWS, number, said)
        if self._cluster.rank not in self._knowing:
            return None
        clients = len(self._rank)
        if self._everyone.shape != (clients, rows.shape[1]):
            self._everyone = np.zeros((clients, rows.shape[1]), dtype=np.float32)
        for rank, site in enumerate(self._sites):
            content: Any = own if rank == self._cluster.rank else self._cluster.hear(rank, Kind.ROWS, number)
            if content is None:
                continue
            theirs = self._everyone[site.rows]
            if content.nbytes != theirs.nbytes:
                raise FrameError(f"rank {rank} sent {content.nbytes} bytes of rows where {theirs.nbytes} are due.")
            theirs[:] = content.view(np.float32).reshape(theirs.shape)
        return self._everyone

    def lend(
        self, t: int, client: int, frames: NDArray[np.uint8], lent: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8] | None:
        """Tells ranks with liars the frame of a client here, and returns it where there is one here.

        Raises:
            FrameError: A rank sent something else than a frame.
        """
        origin, own = int(self._rank[client]), self._cluster.rank
        if origin == own:
            for rank in self._knowing - {own}:
                self._cluster.links[rank].send(Kind.LENT, t, b"" if lent is None else lent.tobytes())
        elif own in self._knowing and (content := self._cluster.hear(origin, Kind.LENT, t)) is not None:
            if len(content) not in (0, frames.shape[1]):
                raise FrameError(f"rank {origin} sent {len(content)} bytes where a frame or nothing is due.")
            return content if len(content) else None
        return lent

    def deliver(
        self,
        frames: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        audience: Audience,
        beside: NDArray[np.float64] | None = None,
    ) -> Delivery:
        """Sends the frames of clients here, and writes those that they hear to the same array.

        Raises:
            FrameError: A rank sent something else than the frames that are due.
        """
        cluster, number = self._cluster, self._t
        senders, ours = self._rank[self.routes.senders], audience.among(self._rank == cluster.rank) > 0
        here = senders == cluster.rank
        there = {rank: np.flatnonzero(here & (audience.among(self._rank == rank) > 0)) for rank in cluster.links}
        back = {rank: np.flatnonzero((senders == rank) & ours) for rank in cluster.links}
        for rank, messages in there.items():
            if len(messages):
                cluster.links[rank].send(Kind.FRAMES, number, _packed(frames, sizes, messages, beside))
        lost = np.zeros(len(self._sites), dtype=np.bool_)
        for rank, messages in back.items():
            if not len(messages):
                continue
            content = cluster.hear(rank, Kind.FRAMES, number)
            if content is None:
                lost[rank] = True
            else:
                _unpack(content, frames, messages, beside, rank)
                cluster.links[rank].send(Kind.TAKEN, number)
        for rank, messages in there.items():
            if len(messages) and not lost[rank]:
                lost[rank] = cluster.hear(rank, Kind.TAKEN, number) is None
        gone = np.repeat(lost, [site.stop - site.start for site in self._sites]) if lost.any() else None
        return Delivery(frames, self._exchange.spent(sizes, audience), gone)


def _having(sites: Sequence[Site], clients: Sequence[int]) -> frozenset[int]:
    """Returns the sites, by their places, that have some of these clients."""
    return frozenset(
        place for place, site in enumerate(sites) if any(site.start <= client < site.stop for client in clients)
    )


def known_to(site: Site, graphs: Sequence[RoundGraph]) -> NDArray[np.int64]:
    """Returns the clients of a site, and those whom they hear or who hear them in some round: int64, rising."""
    if any(isinstance(graph, CompleteGraph) for graph in graphs):
        return np.arange(site.clients)
    heard = [graph.weights[site.rows].indices for graph in graphs]
    hearing = [graph.weights[:, site.rows].nonzero()[0] for graph in graphs]
    return np.unique(np.concatenate([site.ids, *heard, *hearing])).astype(np.int64)


def neighbouring(
    sites: Sequence[Site], graphs: Sequence[RoundGraph], liars: Sequence[int] = ()
) -> set[tuple[int, int]]:
    """Returns the pairs of sites that tell each other something, by their places and the smaller first.

    Args:
        sites: Those of the run.
        graphs: Of the rounds of one period: clients who are neighbours in some round do.
        liars: Clients that know what all others have: these tell it.
    """
    if any(isinstance(graph, CompleteGraph) for graph in graphs):
        return set(itertools.combinations(range(len(sites)), 2))
    places = np.repeat(np.arange(len(sites)), [site.stop - site.start for site in sites])
    found = [np.sort(places[np.stack(graph.weights.nonzero(), axis=1)], axis=1) for graph in graphs]
    ends = np.unique(np.concatenate(found), axis=0)
    knowing = {(min(pair), max(pair)) for pair in itertools.product(_having(sites, liars), range(len(sites)))}
    return {(one, other) for one, other in knowing.union(map(tuple, ends.tolist())) if one != other}


def _packed(
    frames: NDArray[np.uint8], sizes: NDArray[np.int64], messages: NDArray[np.intp], beside: NDArray[np.float64] | None
) -> NDArray[np.uint8]:
    """Returns the sizes of these messages, the numbers that go with them, and then their frames, uint8 `[n]`."""
    parts = [sizes[messages].astype("<i8").view(np.uint8)]
    if beside is not None:
        parts.append(beside[messages].astype("<f8").view(np.uint8))
    return np.concatenate([*parts, *(frames[message, : sizes[message]] for message in messages)])


def _unpack(
    content: NDArray[np.uint8],
    frames: NDArray[np.uint8],
    messages: NDArray[np.intp],
    beside: NDArray[np.float64] | None,
    rank: int,
) -> None:
    """Writes the frames of these messages, sent by `rank`, to their rows of `frames`, and zeros after each."""
    stop = 8 * len(messages)
    head = stop if beside is None else 2 * stop
    sizes = content[:stop].view("<i8") if len(content) >= head else np.array([-1])
    if len(sizes) != len(messages) or (sizes < 0).any() or (sizes > frames.shape[1]).any():
        raise FrameError(f"rank {rank} sent other frames than those that are due. Start all ranks with one config.")
    if head + int(sizes.sum()) != len(content):
        raise FrameError(f"rank {rank} sent {len(content)} bytes where {head + int(sizes.sum())} are due.")
    if beside is not None:
        beside[messages] = content[stop:head].view("<f8")
    for message, stop, size in zip(messages, head + np.cumsum(sizes), sizes, strict=True):
        frames[message, :size] = content[stop - size : stop]
        frames[message, size:] = 0
