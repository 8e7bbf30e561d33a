"""A cluster whose ranks are threads of one process, and runs in it."""

import copy
import queue
import threading

import numpy as np

import declora
from declora import Part, SimulationConfig
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
        self.why = self.failed = ""
        self.patience = _WAIT
        self.bytes_sent = 0

    def send(self, kind, number, content=b""):
        """Sends a message."""
        payload = content if isinstance(content, bytes) else content.tobytes()
        if kind is Kind.FAILED:
            self.other.failed = payload.decode()
            self.other.wake("the run could not go on there")
        elif not self.why:
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
            side.wake(why)

    def wake(self, why):
        """Has whoever waits here know that nothing will come."""
        self.why = self.why or why
        for waiting in self.incoming.values():
            waiting.put(None)

    def end(self):
        """Ends the link, on both sides."""
        self.lose("it has ended")


def linked():
    """Returns the two sides of a new link."""
    here, there = MemoryLink(), MemoryLink()
    here.other, there.other = there, here
    return here, there


class MemoryCluster(Cluster):
    """A rank that is a thread.

    Args:
        rank: Of this one.
        ranks: How many there are.
        store: In which ranks that come back are found; None: none do.
        waiting: The links that one side has made and the other has not taken, the same at all ranks.
        returning: Whether it comes back.
    """

    def __init__(self, rank, ranks, store=None, waiting=None, *, returning=False):
        super().__init__(rank, ranks, store, returning=returning)
        self.waiting = {} if waiting is None else waiting

    def reach(self, peer, attempt=0, *, timeout=None):
        """Returns its side of a link."""
        key = (min(self.rank, peer), max(self.rank, peer), attempt)
        here, there = linked()
        found = self.waiting.setdefault(key, there)  # whoever comes first makes both
        return here if found is there else found

    def least(self, number):
        """Returns the number, which is the same at all ranks of a process."""
        return number

    def again(self):
        """Returns a rank that takes the place of this one."""
        return MemoryCluster(self.rank, self.ranks, self.store, self.waiting, returning=True)


def memory_clusters(ranks, store=None):
    """Returns the ranks of a cluster, linked; with a store, of one to which ranks that were lost come back."""
    waiting = {}
    clusters = [MemoryCluster(rank, ranks, store, waiting) for rank in range(ranks)]
    for one in clusters:
        for other in clusters[one.rank + 1 :]:
            one.links[other.rank], other.links[one.rank] = linked()
    return clusters


def leave(clusters):
    """Ends what listens at any rank."""
    for cluster in clusters:
        cluster.end()


def together(work, ranks):
    """Does the work of all ranks at once: `work(rank)`."""
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rows_of(state):
    return {int(client): row.clone().double() for client, row in zip(state.clients, state.adapter, strict=True)}


class Fallen(Exception):
    """What a rank dies of."""


class Falls(Part):
    """The last rank dies in a round, once; the others wait in another until it is said whether it comes back.

    Args:
        clusters: The ranks, of two clients each.
        dies: The round in which the rank dies, from 0.
        waits: The round before which the others wait, and it comes back no sooner; None: nobody waits.
    """

    name = "falls"

    def __init__(self, clusters, dies=1, waits=None):
        self.dies, self.waits, self.last, self.died = dies, waits, len(clusters) - 1, False
        self.there = threading.Semaphore(0)
        """Counts those that it waits for, who are where they wait."""
        self.awaited = 0 if waits is None else len(clusters) - 1
        self.decided = [threading.Event() for _ in clusters]
        for cluster, done in zip(clusters, self.decided, strict=True):

            def decide(rank, event, done=done, usual=cluster.returns.decide):
                usual(rank, event)
                done.set()

            cluster.returns.decide = decide

    def __deepcopy__(self, memo):
        """Returns itself: one for all ranks."""
        return self

    def begin(self, state, layout):
        """Waits for the others, where the rank comes back."""
        while self.died and self.awaited:
            assert self.there.acquire(timeout=_WAIT)
            self.awaited -= 1

    def before_round(self, state, plan):
        """Dies, or waits."""
        rank = int(state.clients[0]) // 2
        if rank == self.last:
            if plan.event == self.dies and not self.died:
                self.died = True
                raise Fallen("power failure")
        elif plan.event == self.waits:
            self.there.release()
            assert self.decided[rank].wait(_WAIT)


class Noting(Falls):
    """Notes what clients have before gossip and after it, by round and client."""

    def __init__(self, *said, **more):
        super().__init__(*said, **more)
        self.before, self.after = {}, {}

    def lift(self, state, plan):
        """Notes it."""
        self.before.setdefault(plan.event, {}).update(rows_of(state))
        return state.adapter

    def after_round(self, state, plan, inbox):
        """Notes it."""
        self.after.setdefault(plan.event, {}).update(rows_of(state))


def run_ranks(
    ranks, clusters=None, /, *, observe=lambda run, record: None, earlier=None, falling=(), again=None, **settings
):
    """Runs one federation at so many ranks; returns the runs, and what each left.

    Args:
        ranks: How many.
        clusters: Theirs; made here where None.
        observe: Gets the run of a rank and each of its records.
        earlier: After which the first rank goes on.
        falling: The errors of which a rank dies, and the test does not.
        again: By rank, other settings with which it is started again when it has died.
        **settings: Of the run.

    Returns:
        The runs, and what each left: the error, of one that died for good.
    """
    clusters = clusters or memory_clusters(ranks)
    left, raised = [None] * ranks, []

    def ready(cluster, **more):  # each its own model, as processes have
        chosen = {**settings, **more}
        config = SimulationConfig(**{**chosen, "model": copy.deepcopy(chosen["model"])})
        return Run(config, prepare(config), cluster=cluster)

    runs, first = [ready(cluster) for cluster in clusters], list(clusters)

    def work(rank):
        run = runs[rank]
        try:
            left[rank] = run.execute(lambda record: observe(run, record), earlier if rank == 0 else None)
        except BaseException as error:
            for link in clusters[rank].links.values():
                link.lose("its connection was closed")
            if not isinstance(error, falling):
                raised.append(error)
            elif rank in (again or {}) and clusters[rank] in first:
                clusters[rank] = clusters[rank].again()
                try:
                    runs[rank] = ready(clusters[rank], **again[rank])
                except falling as refused:
                    left[rank] = refused
                else:
                    work(rank)
            else:
                left[rank] = error

    together(work, ranks)
    leave(clusters)
    if raised:
        raise raised[0]
    return runs, left


def write_ranks(outs, clusters=None, /, *, resume=None, falling=(), again=(), **settings):
    """Has ranks run one federation, or go on with one, and write what they write of it.

    Args:
        outs: The run folder of each.
        clusters: Theirs; made here where None.
        resume: The objects of a run that goes on; None: it begins.
        falling: The errors of which a rank dies, and the test does not.
        again: Ranks that are started again when they have died.
        **settings: Of the run, or of what is other in it now.

    Returns:
        The result of rank 0, None of one that fell.
    """
    clusters, runs, left, raised = clusters or memory_clusters(len(outs)), [], [None] * len(outs), []

    def ready(out, cluster):
        if resume is None:
            config = SimulationConfig(**{**settings, "out": str(out), "model": copy.deepcopy(settings["model"])})
        else:
            objects = {**resume, "model": copy.deepcopy(resume["model"])}
            config = of_run(out, find_run(out, unfinished=True), objects, asked="resume")
            config = config.override(**{**settings, "out": str(out)})
        return Run(config, prepare(config), cluster=cluster)

    runs.extend(ready(out, cluster) for out, cluster in zip(outs, clusters, strict=True))

    def work(rank):
        try:
            left[rank] = _execute(runs[rank], "run", resume is not None)
        except BaseException as error:
            for link in clusters[rank].links.values():
                link.lose("its connection was closed")
            if isinstance(error, Fallen) and rank in again:
                clusters[rank] = clusters[rank].again()
                runs[rank] = ready(outs[rank], clusters[rank])
                work(rank)
            else:
                raised.extend([] if isinstance(error, falling) else [error])

    together(work, len(outs))
    leave(clusters)
    if raised:
        raise raised[0]
    return left[0]


def compare_ranks(outs, monkeypatch, clusters=None, /, *, resume=False, falling=(), **settings):
    """Has ranks run one comparison, or go on with one, and write what they write of it.

    Args:
        outs: Where each writes.
        monkeypatch: Has each thread be a rank.
        clusters: Theirs; made here where None.
        resume: Whether it goes on.
        falling: The errors of which a rank dies, and the test does not.
        **settings: Of the comparison; of one that goes on, the objects, and what is other now.

    Returns:
        What each rank leaves, the error of one that fell; one that died as `Fallen` is started again.
    """
    clusters, here, left, raised = clusters or memory_clusters(len(outs)), threading.local(), [None] * len(outs), []
    for where in ("cluster.cluster", "simulation", "run"):
        monkeypatch.setattr(f"declora.{where}.of_environment", lambda: getattr(here, "cluster", None))

    def work(rank):
        here.cluster = clusters[rank]
        own = {**settings, "model": copy.deepcopy(settings["model"])}
        try:
            left[rank] = declora.resume(outs[rank], **own) if resume else declora.simulate(**own, out=str(outs[rank]))
        except BaseException as error:
            for link in clusters[rank].links.values():
                link.lose("its connection was closed")
            left[rank] = error
            if isinstance(error, Fallen):
                clusters[rank] = clusters[rank].again()
                work(rank)
            elif not isinstance(error, falling):
                raised.append(error)

    together(work, len(outs))
    leave(clusters)
    if raised:
        raise raised[0]
    return left


def run_hosts(settings, clusters=None, again=None):
    """Runs one federation at ranks with settings of their own, which read data and model while others do.

    Args:
        settings: Of each rank.
        clusters: Of each; made here where None.
        again: By rank, the settings with which it is started again when it has died.

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
            if isinstance(error, Fallen):
                clusters[rank], settings[rank], raised[rank] = clusters[rank].again(), again[rank], None
                work(rank)

    together(work, ranks)
    leave(clusters)
    return left, raised
