"""How a rank comes back into a run: what it does for that, and what the others do."""

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from declora.cluster.link import Link, NoLink
from declora.cluster.messages import Kind, LinkLost
from declora.errors import ConfigError

if TYPE_CHECKING:
    from declora.cluster.cluster import Cluster

__all__ = ["Returns"]


class Returns:
    """Which ranks come back into a run, and from which round on, as one rank knows it.

    A rank that was lost, and has been started again, links with rank 0, loads what it had loaded, and is told what it
    had when rank 0 last heard of it (see `Doorman`). Its neighbours link with it, while their rounds go on. Then rank 0
    asks all in which round they are; who has answered begins no other round until rank 0 has said from which one on the
    rank takes part again: the one after the latest of these. So nobody is past it, and both ends of every link begin to
    count each other in the same round. Threads answer, so that nobody waits for who computes, or waits for others.

    Args:
        cluster: The ranks, seen from this one.
    """

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.neighbours = frozenset[int]()
        """Ranks with neighbours of clients here."""
        self.since: dict[int, int] = {}
        """The round, from 0, from which each rank that came back took part again, the last time."""
        self.had: dict[int, int] = {}
        """At rank 0, after how many rounds what each of these came back with was so."""
        self._changed = threading.Condition()
        self._entered, self._held, self._listening = -1, False, False
        self._made: dict[int, Link] = {}
        """Links to ranks that come back, by rank, until it is said when."""
        self._due: dict[int, tuple[int, Link]] = {}
        """The round from which each of these takes part, and the link to it."""
        self._fresh = frozenset[int]()

    def begin(self, event: int) -> None:
        """Notes that the rounds of a run begin with this one, from 0; from now on, does what rank 0 says."""
        with self._changed:
            self._entered = event - 1
            self.since.clear()  # of the run before
            self.had.clear()
        if self._cluster.rank and self._cluster.store is not None and not self._listening:
            self._listening = True
            threading.Thread(target=self._listen, name="returns", daemon=True).start()

    def enter(self, event: int) -> frozenset[int]:
        """Begins the messages of a round, from 0, unless that has been done.

        Returns:
            The ranks that take part again from this round on: to one that came back, itself and all its neighbours.
        """
        with self._changed:
            if event <= self._entered:
                return frozenset()
            self._changed.wait_for(lambda: not self._held)
            self._entered = event
            back = [rank for rank, (since, _) in self._due.items() if since <= event]
            for rank in back:
                self.since[rank], self._cluster.links[rank] = self._due.pop(rank)
            found, self._fresh = self._fresh.union(back), frozenset()
            self._changed.notify_all()
        return found

    def ask(self) -> int:
        """Returns the round, from 0, in which this rank is; it begins no other until `decide`."""
        with self._changed:
            self._held = True
            return self._entered

    def made(self, rank: int, link: Link) -> None:
        """Keeps the link to a rank that comes back."""
        with self._changed:
            self._made[rank] = link

    def decide(self, rank: int, event: int | None) -> None:
        """Has a rank take part from this round on, from 0; None: it does not come back after all."""
        with self._changed:
            self._held = False
            link = self._made.pop(rank, None)
            if link is not None and event is None:
                threading.Thread(target=link.end, daemon=True).start()
            elif link is not None and event is not None:
                self._due[rank] = (event, link)
            self._changed.notify_all()

    def wait(self, event: int) -> None:
        """Waits until this rank has begun a round."""
        with self._changed:
            self._changed.wait_for(lambda: self._entered >= event)

    def _listen(self) -> None:
        """Does what rank 0 says, until it is lost."""
        cluster = self._cluster
        with suppress(LinkLost):
            while True:
                call = json.loads(bytes(cluster.links[0].receive(Kind.CALL, 0)))
                if call["what"] == "link":
                    if call["rank"] in self.neighbours:
                        self.made(call["rank"], cluster.reach_again(call["rank"], call["attempt"]))
                elif call["what"] == "ask":
                    cluster.links[0].send(Kind.ANSWER, 0, json.dumps(self.ask()).encode())
                else:
                    self.decide(call["rank"], call["event"])
        for rank in list(self._made):  # nobody will say when
            self.decide(rank, None)
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def knock(self) -> Link:
        """Returns the link to rank 0, to which this rank comes back.

        Raises:
            ConfigError: It may not.
        """
        store = self._cluster.store
        assert store is not None
        attempt = store.add("knocks", 1)
        store.set(f"knock/{attempt}", str(self._cluster.rank))
        answer = json.loads(store.get(f"answer/{attempt}"))
        if answer["refused"]:
            raise ConfigError(answer["refused"])
        self._cluster.joins = answer["run"]
        return self._cluster.reach(0, attempt)

    def rejoin(self, event: int) -> int:
        """Comes back into the run, now that all is loaded; returns from which round on, from 0, this rank takes part.

        Args:
            event: After how many rounds its clients had what they have.

        Raises:
            ConfigError: The run ends before.
        """
        cluster = self._cluster
        cluster.links[0].send(Kind.ANSWER, 0, json.dumps(event).encode())
        call = self._told()
        threads = []
        for rank in self.neighbours - {0}:
            cluster.links[rank] = NoLink("it was lost before this rank came back", patience=cluster.patience)
            if rank in call["there"]:
                threads.append(threading.Thread(target=self._link, args=(rank, call["attempt"])))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cluster.links[0].send(Kind.ANSWER, 0)
        since = self._told()["event"]
        if since is None:
            raise ConfigError(f"rank {cluster.rank} comes back too late: no round is left that it could take part in.")
        self._fresh, cluster.returning = self.neighbours | {cluster.rank}, False
        return int(since)

    def _link(self, rank: int, attempt: int) -> None:
        self._cluster.links[rank] = self._cluster.reach_again(rank, attempt)

    def _told(self) -> Any:
        """Returns what rank 0 has this rank do, that comes back."""
        try:
            return json.loads(bytes(self._cluster.links[0].receive(Kind.CALL, 0)))
        except LinkLost as error:
            raise ConfigError(self._cluster.absence(0)) from error
