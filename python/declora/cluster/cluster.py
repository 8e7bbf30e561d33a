"""The ranks of a cluster: processes that `torchrun` started, and a link to each that one has to do with."""

import atexit
import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from declora import process
from declora.cluster.link import Link
from declora.cluster.messages import Kind, LinkLost
from declora.errors import ConfigError, cut, translated

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
    """

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        self.links: dict[int, Link] = {}
        """By rank."""
        self._linked: set[tuple[int, int]] = set()

    def connect(self, pairs: Iterable[tuple[int, int]], *, patience: float) -> None:
        """Links these pairs of ranks, and each with rank 0, where they are not linked yet; all ranks call it alike.

        Args:
            pairs: Of ranks whose clients are neighbours.
            patience: Seconds of silence after which a rank is lost, of links that were there before, too.

        Raises:
            ConfigError: One cannot be linked: it has ended, or is not there in time.
        """
        for link in self.links.values():
            link.patience = patience
        wanted = {(0, rank) for rank in range(1, self.ranks)} | {(min(pair), max(pair)) for pair in pairs}
        for pair in sorted(wanted - self._linked):
            with translated(partial(_unreached, f"ranks {pair[0]} and {pair[1]} cannot be linked")):
                group = dist.new_group(list(pair), timeout=_START, backend="gloo")
            self._linked.add(pair)
            if self.rank in pair:
                peer = pair[0] if self.rank == pair[1] else pair[1]
                self.links[peer] = Link(group, peer, patience=patience)

    def hear(self, rank: int, kind: Kind, number: int) -> NDArray[np.uint8] | None:
        """Returns the next message of a rank, uint8 `[n]`; None where it is lost."""
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
            content = self.hear(0, Kind.START, -1)
            said = {"absent": self.absence(0)} if content is None else json.loads(bytes(content))
        else:
            facts, absent = [fact], ""
            for rank in range(1, self.ranks):
                heard = self.hear(rank, Kind.REPORT, -1)
                facts.append(None if heard is None else json.loads(bytes(heard)))
                absent = absent or ("" if heard is not None else self.absence(rank))
            said = {"facts": facts, "absent": absent}
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
        return f"rank {rank} did not begin the run: {self.lost[rank]}. Its own output says why."

    @property
    def lost(self) -> Mapping[int, str]:
        """Why each rank to which the link was lost is lost."""
        return {rank: link.why for rank, link in self.links.items() if link.why}

    def end(self) -> None:
        """Tells all others that nothing more will come, and waits for them to say so."""
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
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # of torchrun; started by hand, some may be missing
            where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
            logging.getLogger("declora").info("Waiting for all %d ranks at %s", process.ranks(), where)
        with translated(partial(_unreached, f"WORLD_SIZE={process.ranks()}: the other ranks cannot be reached")):
            dist.init_process_group("gloo", timeout=_START)
    _joined.append(Cluster(dist.get_rank(), dist.get_world_size()))
    atexit.register(_joined[0].end)
    if _joined[0].rank:
        logging.getLogger("declora").setLevel(logging.WARNING)  # what there is to be said, rank 0 says
    return _joined[0]


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
