"""The ranks of a cluster: processes that `torchrun` started, and a link to each that one has to do with."""

import atexit
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.distributed import ProcessGroupGloo
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from declora import process
from declora.cluster.doorman import Doorman
from declora.cluster.guard import Guard
from declora.cluster.link import Link, NoLink
from declora.cluster.messages import Kind, LinkLost
from declora.cluster.returns import Returns
from declora.errors import CodecError, ConfigError, TrainingError, cut, translated

__all__ = ["Cluster", "leads", "of_environment"]

_START = timedelta(minutes=10)
"""For all ranks to be there."""


class Cluster:
    """The processes that run one federation together, seen from one of them.

    Rank 0 begins a run, hears how each round was, and keeps what is written; gossip goes between the ranks whose
    clients are neighbours.

    Args:
        rank: Of this process.
        ranks: How many there are.
        store: In which ranks find each other; None: they are linked already, and those that are lost do not come back.
        returning: Whether this process takes the place of one that was lost.
    """

    def __init__(self, rank: int, ranks: int, store: Store | None = None, *, returning: bool = False) -> None:
        self.rank, self.ranks, self.store, self.returning = rank, ranks, store, returning
        self.links: dict[int, Link] = {}
        """By rank."""
        self.patience = _START.total_seconds()
        """Seconds of silence after which a rank is lost."""
        self.said: list[Any] = []
        """At rank 0, what ranks told each other before the rounds: of all runs, and then of the one that goes on."""
        self.calls = 0
        """How often this process was asked for a run, or several."""
        self.joins = 1
        """The first of these runs, from 1, in which this rank takes part: a later one where it came back into that."""
        self._runs, self._before = 0, 0
        self.guard = Guard()
        """Of what threads call in torch."""
        self.returns = Returns(self)
        """Of ranks that were lost."""
        self._doorman = Doorman(self, store) if store is not None and not rank else None

    def connect(self, pairs: Iterable[tuple[int, int]], *, patience: float) -> None:
        """Links these pairs of ranks, and each with rank 0, where they are not linked yet; all ranks call it alike.

        A rank that comes back is linked with rank 0 alone, until `Returns.rejoin`.

        Args:
            pairs: Of ranks whose clients are neighbours.
            patience: Seconds of silence after which a rank is lost, of links that were there before, too.

        Raises:
            ConfigError: One cannot be linked: it has ended, or is not there in time.
        """
        self.patience = patience
        for link in self.links.values():
            link.patience = patience
        ends = {other for pair in pairs if self.rank in pair for other in pair} - {self.rank}
        self.returns.neighbours |= ends
        wanted = ends | ({0} if self.rank else set(range(1, self.ranks)))
        if self.returning:
            wanted = {0}
        for peer in sorted(wanted - self.links.keys(), key=lambda peer: sorted((self.rank, peer))):
            with translated(partial(_unreached, f"ranks {self.rank} and {peer} cannot be linked")):
                self.links[peer] = self.returns.knock() if self.returning else self.reach(peer, timeout=_START)

    def reach(self, peer: int, attempt: int = 0, *, timeout: timedelta | None = None) -> Link:
        """Returns a new link to a rank, which calls this at the same time.

        Args:
            peer: The rank.
            attempt: Which of the links between the two, the same at both.
            timeout: For the other to be there; None: the patience.

        Raises:
            RuntimeError: It is not there in time.
        """
        assert self.store is not None
        low, high = sorted((self.rank, peer))
        # A connection waits for one thing at a time, so each group of two has its own, where torch (from 2.8) has it.
        clone = getattr(self.store, "clone", None)
        own = PrefixStore(f"link/{low}-{high}/{attempt}", self.store if clone is None else clone())
        group = ProcessGroupGloo(own, int(self.rank > peer), 2, timeout or timedelta(seconds=self.patience))
        return Link(group, int(peer > self.rank), patience=self.patience)

    def reach_again(self, peer: int, attempt: int) -> Link:
        """Returns a new link to a rank that comes back, or from it: none where the other is not there in time."""
        try:
            with self.guard.call():
                return self.reach(peer, attempt)
        except RuntimeError as error:
            return NoLink(f"it could not be linked ({cut(error)})", patience=self.patience)

    def turn(self) -> None:
        """Turns to the next of the runs that are ready; all ranks call it alike."""
        self._runs += 1
        if self._runs == 1:
            self._before = len(self.said)
        del self.said[self._before :]  # of the run before

    def begin(self, event: int, greet: Callable[[int, Link], bool], rounds: int) -> None:
        """Begins the rounds of a run, into which ranks that are lost may come back.

        Args:
            event: The first of these, from 0.
            greet: As `Doorman.open` takes it.
            rounds: Of the run.
        """
        self.returns.begin(event)
        if self._doorman is not None:
            self._doorman.open(greet, rounds)

    def hear(self, rank: int, kind: Kind, number: int) -> NDArray[np.uint8] | None:
        """Returns the next message of a rank, uint8 `[n]`; None where it is lost.

        Raises:
            TrainingError: The run cannot go on there.
        """
        content = self._heard(rank, kind, number)
        if content is None:
            self.heed(rank)
        return content

    def heed(self, rank: int) -> None:
        """Ends the run here, too, where it cannot go on at another rank.

        Raises:
            TrainingError: It cannot; says what that rank says.
        """
        if failed := self.links[rank].failed:
            raise TrainingError(failed)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Ends the run at all ranks where it cannot go on at this one: with what rank 0 has found out first.

        Raises:
            TrainingError: It cannot go on here, or at another rank.
            CodecError: It cannot go on here: a message cannot be made, or is not what it should be.
        """
        try:
            yield
        except (TrainingError, CodecError) as error:
            why = str(error)
            for link in self.links.values():
                link.send(Kind.FAILED, 0, why.encode())
            if self.rank:
                with suppress(LinkLost):
                    self.links[0].receive(Kind.FAILED, 0)  # which ends the link
                why = self.links[0].failed or why
            if why == str(error):
                raise
            raise TrainingError(why) from error

    def _heard(self, rank: int, kind: Kind, number: int) -> NDArray[np.uint8] | None:
        try:
            return self.links[rank].receive(kind, number)
        except LinkLost:
            return None

    def share(self, fact: object, *, apart: bool = False) -> list[Any]:
        """Returns what all ranks say, by rank; they call it alike, before the rounds.

        Args:
            fact: What this one says, as JSON can write it.
            apart: Whether it says so of data that it has alone, when those who have all data say something else.

        Raises:
            ConfigError: A rank is lost, or some have data of their own and others have all.
        """
        said = self._said({"apart": apart, "fact": fact})
        if other := [rank for rank, one in enumerate(said) if one["apart"] != apart]:
            own, whole = (self.rank, other[0]) if apart else (other[0], self.rank)
            raise ConfigError(
                f"data names a file of each client at rank {own}, but data for all clients at rank {whole}. Set it to "
                "a pattern with {client}, or a table of files, at every rank; or to the same data at all."
            )
        return [one["fact"] for one in said]

    def _said(self, fact: object) -> list[Any]:
        """Returns what all ranks say, through rank 0."""
        if self.rank:
            self.links[0].send(Kind.REPORT, -1, json.dumps(fact).encode())
            content = self._heard(0, Kind.START, -1)
            said = {"absent": self.absence(0)} if content is None else json.loads(bytes(content))
        else:
            facts, absent = [fact], ""
            for rank in range(1, self.ranks):
                heard = self._heard(rank, Kind.REPORT, -1)
                facts.append(None if heard is None else json.loads(bytes(heard)))
                absent = absent or ("" if heard is not None else self.absence(rank))
            said = {"facts": facts, "absent": absent}
            self.said.append(said)
            for link in self.links.values():
                link.send(Kind.START, -1, json.dumps(said).encode())
        if said["absent"]:
            raise ConfigError(said["absent"])
        return list(said["facts"])

    def least(self, number: int) -> int:
        """Returns the smallest of the numbers that all ranks say, which call it alike.

        Raises:
            ConfigError: A rank is lost.
        """
        return int(min(self.share(number)))

    def absence(self, rank: int) -> str:
        """Returns what there is to say of a rank that was lost before the run."""
        if self.returning:
            return f"rank {self.rank} cannot come back: rank {rank} has ended, or is lost ({self.lost[rank]})."
        return f"rank {rank} did not begin the run: {self.lost[rank]}. Its own output says why."

    @property
    def lost(self) -> Mapping[int, str]:
        """Why each rank to which the link was lost is lost."""
        return {rank: link.why for rank, link in self.links.items() if link.why}

    def end(self) -> None:
        """Tells all others that nothing more will come, and waits for them to say so."""
        self.guard.close(self.patience)
        threads = [threading.Thread(target=link.end) for link in self.links.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


_joined: list[Cluster] = []
"""The one of this process, which joins once, whatever it runs."""


def of_environment() -> Cluster | None:
    """Returns the cluster that this process was started into, as `torchrun` says; None where it is by itself.

    Raises:
        ConfigError: The variables of the environment are not what torchrun sets, or the others cannot be reached.
    """
    if _joined:
        return _joined[0]
    if process.ranks() < 2:
        return None
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # of torchrun; started by hand, some may be missing
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        logging.getLogger("declora").info("Waiting for all %d ranks at %s", process.ranks(), where)
    with translated(partial(_unreached, f"WORLD_SIZE={process.ranks()}: the other ranks cannot be reached")):
        found, rank, ranks = next(rendezvous("env://", timeout=_START))
        store = PrefixStore("declora", found)
        starts = store.add(f"starts/{rank}", 1)
    if starts > 1 and not rank:
        raise ConfigError("rank 0 has ended, and cannot come back into its run. Start all ranks with `declora resume`.")
    cluster = Cluster(rank, ranks, store, returning=starts > 1)
    if cluster.returning:
        logging.getLogger("declora").info("Rank %d was there before, and comes back into the run", rank)
    _joined.append(cluster)
    atexit.register(cluster.end)
    if not cluster.returning:  # which waits for settings that say how long rank 0 is patient
        cluster.connect((), patience=_START.total_seconds())  # so that who ends while it loads is missed at once
    if rank:
        logging.getLogger("declora").setLevel(logging.WARNING)  # what there is to be said, rank 0 says
    return cluster


def _unreached(what: str, error: Exception) -> ConfigError:
    """Returns the error for ranks that do not come together."""
    said = cut(error) or type(error).__name__
    return ConfigError(
        f"{what} ({said}). Start all of them, as `torchrun --nproc-per-node=N -m declora ...` does, or unset "
        "WORLD_SIZE to run alone; where one has ended, its own output says why."
    )


def leads() -> bool:
    """Returns whether this process writes and says what there is to be written and said: alone, or as rank 0."""
    cluster = of_environment()
    return cluster is None or cluster.rank == 0
