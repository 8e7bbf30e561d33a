"""Rank 0's part in letting ranks that were lost come back into its run."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from declora.cluster.link import Link
from declora.cluster.messages import Kind, LinkLost

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from declora.cluster.cluster import Cluster

__all__ = ["Doorman"]

_POLL = 0.2
"""Seconds between two looks at who knocks."""


class Doorman:
    """Lets ranks that come back into the run of rank 0, each in a thread of its own; see `Returns`.

    Args:
        cluster: The ranks, seen from the first.
        store: Where those knock that come back.
    """

    def __init__(self, cluster: "Cluster", store: "Store") -> None:
        self._cluster, self._store = cluster, store
        self._deciding = threading.Lock()
        self._runs: list[tuple[Callable[[int, Link], bool], int]] = []

    def open(self, greet: Callable[[int, Link], bool], rounds: int) -> None:
        """Begins a run.

        Args:
            greet: Hears over a link what a rank has in common with this one, and tells it with what it begins, or why
                it may not; returns whether it may.
            rounds: Of the run.
        """
        self._runs.append((greet, rounds))
        if len(self._runs) == 1:
            threading.Thread(target=self._watch, name="doorman", daemon=True).start()

    def _watch(self) -> None:
        seen = 0
        with suppress(RuntimeError):  # the store has ended
            while True:
                with self._cluster.guard.call():
                    knocks = self._store.check([f"knock/{seen + 1}"])
                    rank = int(self._store.get(f"knock/{seen + 1}")) if knocks else 0
                if not knocks:
                    time.sleep(_POLL)
                    continue
                seen += 1
                threading.Thread(target=self._serve, args=(rank, seen), daemon=True).start()

    def _serve(self, rank: int, attempt: int) -> None:
        refused, number, told = self._refused(rank), len(self._runs), list(self._cluster.said)
        with self._cluster.guard.call():
            self._store.set(f"answer/{attempt}", json.dumps({"refused": refused, "run": number}))
        if refused:
            return
        greet, rounds = self._runs[number - 1]
        link, back = self._cluster.reach_again(rank, attempt), False
        try:
            if self._repeat(rank, link, told) and greet(rank, link):
                had = int(json.loads(bytes(link.receive(Kind.ANSWER, 0))))  # it has loaded everything
                with self._deciding:
                    self._cluster.returns.had[rank] = had
                    back = self._let_in(rank, link, attempt, number, rounds)
        except LinkLost:
            pass
        finally:
            if not back:
                link.end()

    def _refused(self, rank: int) -> str:
        """Returns why a rank may not come back; empty where it may."""
        if rank not in self._cluster.links:
            return (
                f"RANK={rank} is none of the {self._cluster.ranks} ranks of the run. Set RANK to the one that was lost."
            )
        until = time.monotonic() + 1.5 * self._cluster.patience
        while not self._cluster.links[rank].why:  # it may have died a moment ago
            if time.monotonic() > until:
                return (
                    f"rank {rank} has not been lost: another process with RANK={rank} takes part. End that first, or "
                    "start this one with the RANK of the one that was lost."
                )
            time.sleep(_POLL)
        if self._cluster.calls > 1:
            return (
                f"rank {rank} cannot come back: the process of rank 0 has called simulate {self._cluster.calls} times, "
                "and ranks come back only into what the first call runs, which is where they begin. Start a process "
                "for each call, or name all runs in one, by compare."
            )
        return ""

    def _repeat(self, rank: int, link: Link, told: Sequence[Any]) -> bool:
        """Tells a rank what all ranks told each other before the run; returns whether it says of itself what it did."""
        for said in told:
            now, then = json.loads(bytes(link.receive(Kind.REPORT, -1))), said["facts"][rank]
            if now["apart"] != then["apart"] or (now["apart"] and now != then):
                why = f"rank {rank} has other data than when the run began. Give it what it had, or resume the run."
                link.send(Kind.START, -1, json.dumps({**said, "absent": why}).encode())
                return False
            link.send(Kind.START, -1, json.dumps(said).encode())
        return True

    def _let_in(self, rank: int, link: Link, attempt: int, number: int, rounds: int) -> bool:
        """Has a rank that is ready linked with its neighbours, and all take it back from the same round on.

        Args:
            rank: Which.
            link: To it.
            attempt: By which its neighbours are linked with it.
            number: Of the run, from 1.
            rounds: Of that.

        Returns:
            Whether there is such a round.
        """
        cluster, returns, event = self._cluster, self._cluster.returns, None
        there = [peer for peer, other in cluster.links.items() if peer != rank and not other.why]
        others = [cluster.links[peer] for peer in there]
        returns.made(rank, link)
        try:
            _tell([*others, link], what="link", rank=rank, attempt=attempt, there=there)
            link.receive(Kind.ANSWER, 0)  # it has linked with those who can be reached
            latest = self._latest(others)
            if latest + 1 < rounds and len(self._runs) == number:
                event = latest + 1
        finally:
            _tell([*others, link], what="join", rank=rank, event=event)
            returns.decide(rank, event)
        if event is not None:
            returns.wait(event)  # who comes next is to be linked with this one
        return event is not None

    def _latest(self, others: Sequence[Link]) -> int:
        """Returns the latest round, from 0, in which a rank is; nobody begins a later one until all are told more."""
        rounds = [self._cluster.returns.ask()]
        _tell(others, what="ask")
        for other in others:
            with suppress(LinkLost):
                rounds.append(int(json.loads(bytes(other.receive(Kind.ANSWER, 0)))))
        return max(rounds)


def _tell(links: Sequence[Link], **call: object) -> None:
    """Has the other ranks do something so that a rank comes back."""
    for link in links:
        link.send(Kind.CALL, 0, json.dumps(call).encode())
