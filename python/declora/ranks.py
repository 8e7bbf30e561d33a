"""Clients divided over the ranks of a cluster, and how what is known of them comes together at rank 0."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora.appraisal import answer, ask
from declora.cluster import Cluster, Kind, Link, Site, divide
from declora.errors import ConfigError, shown
from declora.exchange import SpreadExchange, known_to, neighbouring
from declora.federation import Federation
from declora.inbox import Inbox
from declora.measuring import RoundReport
from declora.parcels import pack, pack_report, unpack, unpack_report
from declora.state import HEARD, SHARED, State
from declora.train.evaluate import Tally, Tallying
from declora.train.local_steps import LocalRound

__all__ = ["Beginning", "Ranks"]


@dataclass(frozen=True)
class Beginning:
    """What a run begins or goes on with, the same at all sites."""

    run: str
    """Names the run, 32 hex digits."""
    event: int = 0
    """Events that are finished."""
    arrays: Mapping[str, NDArray[Any]] | None = None
    """Of the state after these, of all clients; None where the run begins."""


class Ranks:
    """Clients divided over the ranks of a cluster; what is known of them comes together at rank 0.

    Args:
        cluster: The ranks.
        federation: Who takes part.
        group_size: Clients that this rank would compute together.
        chosen: Whether that was said, and is not to be lowered so that every rank has clients.
        patience: Seconds of silence after which a rank is lost.
        rounds: Of the run.
        sites: Which clients each rank has, where that is so before the run; None: as suits the groups.
        apart: Whether each rank alone has the samples that its clients are evaluated on.
    """

    def __init__(
        self,
        cluster: Cluster,
        federation: Federation,
        group_size: int,
        *,
        chosen: bool,
        patience: float,
        rounds: int,
        sites: Sequence[Site] | None = None,
        apart: bool = False,
    ) -> None:
        cluster.connect((), patience=patience)
        self._cluster, self._patience, self._rounds = cluster, patience, rounds
        self._clients, self._graphs = federation.clients, federation.topology.graphs
        self._given, self._apart, self._liars = sites, apart, federation.attackers
        least = cluster.least(group_size)
        self.group_size = least if chosen else min(least, max(1, federation.clients // cluster.ranks))
        while self._split():
            self.group_size -= 1
        self.leads = cluster.rank == 0
        self._state: State | None = None
        self._first: Mapping[str, NDArray[Any]] | None = None
        self._known = [0] * cluster.ranks  # after how many rounds what rank 0 has of each was so
        self.written = dict[int, Mapping[str, Any]]()
        """At rank 0, the last shard that each other rank has written."""
        self.read_own: Callable[[Mapping[str, Any]], Mapping[str, NDArray[Any]] | None] = lambda shard: None
        """Returns the arrays of a shard that this rank has written; None where it is not here."""
        self._lost = set[int]()
        self._said: list[str] = []
        self._divide()

    def _split(self) -> list[Site]:
        """Returns the sites, of those that are given, that begin within a group."""
        return [site for site in self._given or () if site.start % self.group_size]

    def _divide(self) -> None:
        if split := self._split():
            raise ConfigError(
                f"group_size={self.group_size}: client {split[0].start}, the first of a rank, is not the first of a "
                "group. Start as many ranks as when the run was begun."
            )
        ranks = self._cluster.ranks
        self._sites = self._given or divide(self._clients, ranks, group_size=self.group_size)
        self.site = self._sites[self._cluster.rank]

    @property
    def cluster(self) -> Cluster:
        """The ranks."""
        return self._cluster

    @property
    def notes(self) -> tuple[str, ...]:
        """Which ranks were lost, when and why, and which came back, in whole sentences."""
        return tuple(self._said)

    def where(self) -> tuple[int, int]:
        """Returns which client is the first here, and how many are computed together."""
        return self.site.start, self.group_size

    def begin(self, beginning: Beginning, agreed: Callable[[], Mapping[str, object]]) -> Beginning:
        """Begins a run at all ranks as it begins at rank 0.

        Args:
            beginning: Of rank 0; of the others it is not read.
            agreed: Returns what all ranks must have in common, by name.

        Raises:
            ConfigError: They have not; names what is different where.
        """
        beginning = self._lead(beginning, agreed()) if self.leads else self._follow(agreed())
        self._cluster.returns.neighbours = frozenset()  # of an earlier run's graph
        self._cluster.connect(neighbouring(self._sites, self._graphs, self._liars), patience=self._patience)
        return beginning

    def _lead(self, beginning: Beginning, agreed: Mapping[str, object]) -> Beginning:
        self._divide()  # the run that it goes on with may have computed other groups
        self._agreed: dict[str, object] = json.loads(json.dumps(agreed, sort_keys=True))
        refused = self._refused()
        self._first, self._known = beginning.arrays, [beginning.event] * self._cluster.ranks
        for rank, link in self._cluster.links.items():
            self._start(rank, link, beginning, refused)
        if refused:
            raise ConfigError(refused)
        own = None if beginning.arrays is None else self._part(beginning.arrays, 0)
        return Beginning(beginning.run, beginning.event, own)

    def _follow(self, agreed: Mapping[str, object]) -> Beginning:
        self._cluster.links[0].send(Kind.REPORT, 0, json.dumps(agreed, sort_keys=True).encode())
        content = self._cluster.hear(0, Kind.START, 0)
        if content is None:
            raise ConfigError(self._cluster.absence(0))
        about, arrays = unpack(content)
        if about["refused"]:
            raise ConfigError(about["refused"])
        self.group_size = about["group_size"]
        self._divide()
        if about["shard"] and (own := self.read_own(about["shard"])) is not None:
            return Beginning(about["run"], about["shard"]["event"], self._with_own(arrays, own))
        return Beginning(about["run"], about["event"], arrays if about["event"] else None)

    def _with_own(self, arrays: Mapping[str, NDArray[Any]], own: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns arrays of clients here and those that they hear, with the rows that this rank has of its own."""
        known = known_to(self.site, self._graphs)
        here, found = np.isin(known, self.site.ids), dict(arrays)
        for name, rows in own.items():
            found[name] = rows
            if name.partition("/")[0] in HEARD:
                found[name] = np.zeros((len(known), *rows.shape[1:]), rows.dtype)
                found[name][~here] = arrays[name][~here] if name in arrays else 0
                found[name][here] = rows
        return found

    def _start(self, rank: int, link: Link, beginning: Beginning, refused: str) -> None:
        """Tells a rank with what it begins, or why it may not."""
        event, shard = self._known[rank], self.written.get(rank)
        shard = None if shard is None or shard["event"] <= event else shard
        about = {
            "refused": refused,
            "run": beginning.run,
            "event": event,
            "group_size": self.group_size,
            "shard": shard,
        }
        arrays = {} if beginning.arrays is None or not (event or shard) else self._part(beginning.arrays, rank)
        link.send(Kind.START, 0, pack(about, arrays))

    def _refused(self) -> str:
        """Returns why the ranks cannot run this together; empty where they can."""
        for rank in self._cluster.links:
            content = self._cluster.hear(rank, Kind.REPORT, 0)
            if content is None:
                return self._cluster.absence(rank)
            if refused := self._unlike(rank, content):
                return refused
        return ""

    def _unlike(self, rank: int, content: NDArray[np.uint8]) -> str:
        """Returns what a rank has not in common with this one, in a sentence; empty where it has all."""
        own, theirs = self._agreed, json.loads(bytes(content))
        for name in sorted(own.keys() | theirs.keys()):
            if own.get(name) != theirs.get(name):
                values = f"{shown(own.get(name))} at rank 0, but {shown(theirs.get(name))} at rank {rank}"
                return f"{name}: {values}. Start all ranks with the same settings, data, model and versions."
        return ""

    def _greet(self, rank: int, link: Link) -> bool:
        """Tells a rank that comes back what it had when it was last heard of; returns whether it may."""
        assert self._state is not None
        refused = self._unlike(rank, link.receive(Kind.REPORT, 0))
        self._start(rank, link, Beginning(self._state.run_id.hex(), arrays=self._state.arrays()), refused)
        return not refused

    def spread(self, federation: Federation) -> Federation:
        """Returns the federation whose messages reach clients wherever they are."""
        if federation.exchange.silent:
            return federation
        exchange = SpreadExchange(self._cluster, self._sites, self._graphs, federation.exchange, self._liars)
        return replace(federation, exchange=exchange)

    def started(self, state: State) -> State | None:
        """Returns what all clients have before the first round: that of a run that goes on, or all the same.

        It is known to rank 0, None at the others. A rank that comes back waits until it is said from which round on it
        takes part.
        """
        if self._cluster.returning:
            state.event = self._cluster.returns.rejoin(state.event)
        if self.leads:
            first = self._first
            if first is None:
                first = {name: np.repeat(array[:1], self._clients, axis=0) for name, array in state.arrays().items()}
            self._state = state.like(first)
        self._cluster.begin(state.event, self._greet, self._rounds)
        return self._state

    def _part(self, arrays: Mapping[str, NDArray[Any]], rank: int) -> dict[str, NDArray[Any]]:
        """Returns of the arrays of all clients what a rank has of them."""
        site = self._sites[rank]
        heard = known_to(site, self._graphs)
        parts = {}
        for name, array in arrays.items():
            room = name.partition("/")[0]
            if room in SHARED:
                parts[name] = array
            else:
                parts[name] = np.ascontiguousarray(array[heard if room in HEARD else site.rows])
        return parts

    def telling(self) -> AbstractContextManager[None]:
        """Ends the run at all ranks, with one error, where it cannot go on at this one."""
        return self._cluster.telling()

    def gather(self, event: int, report: RoundReport, *, whole: bool) -> RoundReport | None:
        """Returns the report of a round of all clients at rank 0, None at the others, who send it theirs.

        Args:
            event: Of the round, from 0.
            report: Of the clients here.
            whole: Whether the state of all clients is wanted, too.
        """
        self._cluster.returns.enter(event)  # where nobody talks, no message has
        if not self.leads:
            self._cluster.heed(0)  # from which it may hear nothing else
            self._cluster.links[0].send(Kind.REPORT, event + 1, pack_report(report, self._arrays(report, whole)))
            return None
        found = {0: (report, self._arrays(report, whole))}
        for rank in range(1, self._cluster.ranks):
            if self._cluster.returns.since.get(rank) == event:
                self._take_back(rank, event)
            content = self._cluster.hear(rank, Kind.REPORT, event + 1)
            if content is not None:
                found[rank] = unpack_report(content)
            elif rank not in self._lost:
                self._lose(rank, event)
        return self._merged(found, report, whole)

    def appraise(self, event: int, row: torch.Tensor, average: Tallying) -> list[Tally]:
        """Returns what an adapter does on the samples of all clients, at rank 0.

        Args:
            event: Of the round, from 0.
            row: The adapter, float32 `[D]`.
            average: Returns what it does on the samples here.
        """
        return ask(self._cluster, event, row, average) if self._apart else average(row)

    def answer(self, event: int, average: Tallying) -> None:
        """Tells rank 0 what its adapter does on the samples here, where it has not all of them; see `appraise`."""
        if self._apart:
            answer(self._cluster, event, average)

    def _lose(self, rank: int, event: int) -> None:
        self._lost.add(rank)
        self._say(
            rank,
            f"was lost in round {event + 1}: {self._cluster.lost[rank]}. The others went on without them; what is kept "
            f"of these clients is of round {self._known[rank]}.",
        )

    def _take_back(self, rank: int, event: int) -> None:
        self._lost.discard(rank)  # where it was so fast that nobody missed it, it was not there
        known = self._cluster.returns.had[rank]
        self._say(
            rank,
            f"came back in round {event + 1} with what these clients had "
            + (f"after round {known}." if known else "before the first round: nothing later is known."),
        )

    def _say(self, rank: int, what: str) -> None:
        site = self._sites[rank]
        self._said.append(f"Rank {rank} with clients {site.start} to {site.stop - 1} {what}")
        warnings.warn(self._said[-1], stacklevel=2)

    def _arrays(self, report: RoundReport, whole: bool) -> dict[str, NDArray[Any]]:
        """Returns the arrays of the clients here, where they are wanted."""
        return {} if not whole or report.state is None else report.state.rows()

    def _merged(
        self, found: Mapping[int, tuple[RoundReport, Mapping[str, NDArray[Any]]]], own: RoundReport, whole: bool
    ) -> RoundReport:
        def rows(values: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
            some = values[0]
            parts = [
                values[rank] if rank in values else np.zeros((site.stop - site.start, *some.shape[1:]), some.dtype)
                for rank, site in enumerate(self._sites)
            ]
            return np.concatenate(parts)

        reports = {rank: report for rank, (report, _) in found.items()}
        tolerated = None
        if own.inbox.tolerated is not None:
            tolerated = rows({rank: part.inbox.tolerated for rank, part in reports.items()})  # type: ignore[misc]
        suspected = [part.inbox.suspected for part in reports.values() if part.inbox.suspected is not None]
        digests = None
        if own.digests is not None:
            digests = rows({rank: part.digests for rank, part in reports.items()})  # type: ignore[misc]
        entries = None
        if own.entries is not None:
            nothing: Mapping[str, str | None] = {}
            parts = [
                reports[rank].entries or () if rank in reports else [nothing] * (site.stop - site.start)
                for rank, site in enumerate(self._sites)
            ]
            entries = [entry for part in parts for entry in part]
        if whole:
            self._state = self._whole({rank: arrays for rank, (_, arrays) in found.items()}, own)
        lost = frozenset(client for rank in self._lost for client in self._sites[rank].ids.tolist())
        return RoundReport(
            LocalRound(
                rows({rank: part.work.losses for rank, part in reports.items()}),
                rows({rank: part.work.samples for rank, part in reports.items()}),
                max(part.work.learning_rate for part in reports.values()),
            ),
            Inbox(
                rows({rank: part.inbox.bytes_sent for rank, part in reports.items()}),
                tolerated=tolerated,
                suspected=np.sum(suspected, axis=0) if suspected else None,
                unused={n: sum(part.inbox.unused[n] for part in reports.values()) for n in own.inbox.unused},
            ),
            {name: max(part.seconds.get(name, 0.0) for part in reports.values()) for name in own.seconds},
            {client: score for rank in sorted(reports) for client, score in reports[rank].scores.items()},
            max(part.seconds_evaluate for part in reports.values()),
            self._state if whole else None,
            lost,
            digests,
            entries,
        )

    def _whole(self, found: Mapping[int, Mapping[str, NDArray[Any]]], own: RoundReport) -> State:
        """Returns the state of all clients: of those that were lost, as it was when it last came together."""
        assert own.state is not None
        assert self._state is not None
        before, arrays = self._state.arrays(), dict[str, NDArray[Any]]()
        for name, some in found[0].items():
            if name not in before:  # it came to be in this round
                before[name] = np.zeros((self._clients, *some.shape[1:]), some.dtype)
            parts = [
                found[rank][name] if rank in found else before[name][site.rows] for rank, site in enumerate(self._sites)
            ]
            arrays[name] = np.concatenate(parts)
        self._known = [own.state.event if rank in found else event for rank, event in enumerate(self._known)]
        state = own.state.like(arrays)
        state.rooms |= {name: own.state.room(name) for name in SHARED}  # which rank 0 keeps for all
        return state

    def remembered(self, rank: int, own: State) -> dict[str, NDArray[Any]]:
        """Returns the rows of the clients of a rank as they last came together here; what had not, as zeros.

        Args:
            rank: That is lost.
            own: Of the clients here, whose arrays theirs are like.
        """
        assert self._state is not None
        site, before = self._sites[rank], self._state.rows()
        nothing = {n: np.zeros((site.stop - site.start, *a.shape[1:]), a.dtype) for n, a in own.rows().items()}
        return {name: before[name][site.rows] if name in before else zeros for name, zeros in nothing.items()}
