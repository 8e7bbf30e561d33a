"""A cluster whose ranks are threads of one process, and runs in it."""

import copy
import queue
import threading

import numpy as np

from declora import SimulationConfig
from declora.cluster import Cluster, Kind, LinkLost
from declora.prepare import prepare
from declora.report import find_run
from declora.run import Run
from declora.settings import of_run
from declora.simulation import _execute

_WAIT = 60.0
"""Seconds after which a test has failed."""


class MemoryLink:
    """One side of a link."""

    def __init__(self) -> None:
        self.incoming = {kind: queue.Queue() for kind in Kind}
        self.other: MemoryLink
        self.why = ""
        self.bytes_sent = 0

    def send(self, kind, number, content=b""):
        """Sends a message."""
        payload = content if isinstance(content, bytes) else content.tobytes()
        if not self.why:
            self.bytes_sent += 24 + len(payload)
            self.other.incoming[kind].put((number, payload))

    def receive(self, kind, number):
        """Returns the next message of a kind."""
        found = self.incoming[kind].get(timeout=_WAIT)
        if found is None:
            self.incoming[kind].put(None)
            raise LinkLost(self.why)
        assert found[0] == number, (kind, found[0], number)
        return np.frombuffer(found[1], dtype=np.uint8)

    def lose(self, why="its connection was closed"):
        """Loses the link, on both sides."""
        for side in (self, self.other):
            side.why = side.why or why
            for waiting in side.incoming.values():
                waiting.put(None)


class MemoryCluster(Cluster):
    """A rank that is a thread."""

    def connect(self, pairs, *, patience):
        """Has nothing to do: all are linked."""

    def least(self, number):
        """Returns the number, which is the same at all ranks of a process."""
        return number


def memory_clusters(ranks):
    """Returns the ranks of a cluster, linked."""
    clusters = [MemoryCluster(rank, ranks) for rank in range(ranks)]
    for one in clusters:
        for other in clusters[one.rank + 1 :]:
            here, there = MemoryLink(), MemoryLink()
            here.other, there.other = there, here
            one.links[other.rank], other.links[one.rank] = here, there
    return clusters


def together(work, ranks):
    """Does the work of all ranks at once: `work(rank)`."""
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_ranks(ranks, clusters=None, /, *, observe=lambda run, record: None, earlier=None, falling=(), **settings):
    """Runs one federation at so many ranks; returns the runs, and what each left.

    Args:
        ranks: How many.
        clusters: Theirs; made here where None.
        observe: Gets the run of a rank and each of its records.
        earlier: After which the first rank goes on.
        falling: The errors of which a rank dies, and the test does not.
        **settings: Of the run.
    """
    clusters = clusters or memory_clusters(ranks)
    runs, left, raised = [], [None] * ranks, []
    for cluster in clusters:  # each its own model, as processes have
        config = SimulationConfig(**{**settings, "model": copy.deepcopy(settings["model"])})
        runs.append(Run(config, prepare(config), cluster=cluster))

    def work(rank):
        run = runs[rank]
        try:
            left[rank] = run.execute(lambda record: observe(run, record), earlier if rank == 0 else None)
        except BaseException as error:
            raised.extend([] if isinstance(error, falling) else [error])
            for link in clusters[rank].links.values():
                link.lose("its connection was closed")

    together(work, ranks)
    if raised:
        raise raised[0]
    return runs, left


def write_ranks(outs, clusters=None, /, *, resume=None, falling=(), **settings):
    """Has ranks run one federation, or go on with one, and write what they write of it.

    Args:
        outs: The run folder of each.
        clusters: Theirs; made here where None.
        resume: The objects of a run that goes on; None: it begins.
        falling: The errors of which a rank dies, and the test does not.
        **settings: Of the run, or of what is other in it now.

    Returns:
        The result of rank 0, None of one that fell.
    """
    clusters, runs, left, raised = clusters or memory_clusters(len(outs)), [], [None] * len(outs), []
    for out, cluster in zip(outs, clusters, strict=True):
        if resume is None:
            config = SimulationConfig(**{**settings, "out": str(out), "model": copy.deepcopy(settings["model"])})
        else:
            objects = {**resume, "model": copy.deepcopy(resume["model"])}
            config = of_run(out, find_run(out, unfinished=True), objects, asked="resume")
            config = config.override(**{**settings, "out": str(out)})
        runs.append(Run(config, prepare(config), cluster=cluster))

    def work(rank):
        try:
            left[rank] = _execute(runs[rank], "run", resume is not None)
        except BaseException as error:
            raised.extend([] if isinstance(error, falling) else [error])
            for link in clusters[rank].links.values():
                link.lose("its connection was closed")

    together(work, len(outs))
    if raised:
        raise raised[0]
    return left[0]


def run_hosts(settings, clusters=None):
    """Runs one federation at ranks with settings of their own, which read data and model while others do.

    Args:
        settings: Of each rank.
        clusters: Of each; made here where None.

    Returns:
        What each left, and the error of which each ended, None of one that did not.
    """
    ranks = len(settings)
    clusters = clusters or memory_clusters(ranks)
    left, raised = [None] * ranks, [None] * ranks

    def work(rank):
        config = SimulationConfig(**{**settings[rank], "model": copy.deepcopy(settings[rank]["model"])})
        try:
            left[rank] = Run(config, prepare(config, clusters[rank]), cluster=clusters[rank]).execute()
        except BaseException as error:
            raised[rank] = error
            for link in clusters[rank].links.values():
                link.lose("it has ended")

    together(work, ranks)
    return left, raised
