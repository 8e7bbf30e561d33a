"""Checkpoints of a run over several ranks: each writes what it has of the state, and the first what counts of it."""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from declora.cluster import Kind
from declora.disks import Disk, meet
from declora.errors import RunFolderError
from declora.parcels import pack, unpack
from declora.ranks import Ranks
from declora.report import Earlier, RunFolder, reason
from declora.report.belongings import CHECKPOINTS
from declora.run import RoundRecord, Run
from declora.store import Checkpoint, Shard, Store, UnsoundCheckpoint

__all__ = ["Collecting", "Contributing", "is_due"]

Heard: TypeAlias = Mapping[int, Shard | str | None]
"""By rank, the shard that it has written; why it could not; None where it is lost."""


def is_due(run: Run) -> bool:
    """Returns whether the state of a run, as it is now, is to be written."""
    event, every = run.state.event, run.config.checkpoint_every
    return every is not None and (event % every == 0 or event == run.config.rounds)


class Collecting:
    """What rank 0 hears of the shards of others, and tells them; of a run in one process, nothing.

    A shard is written and on the disk before rank 0 hears of it, and counts once rank 0 has written the checkpoint that
    names it. The ranks then hear which checkpoints there are, and remove the shards of others.

    Args:
        run: The run.
        folder: Its folder.
        resume: Whether that holds a part of the run.

    Raises:
        RunFolderError: A rank cannot write anywhere; says which and why.
        ConfigError: One is lost.
    """

    def __init__(self, run: Run, folder: RunFolder, *, resume: bool) -> None:
        self._run = run
        self._ranks = run.gathering if isinstance(run.gathering, Ranks) and run.config.checkpoint_every else None
        self._links = {} if self._ranks is None else self._ranks.cluster.links
        if self._ranks is not None:
            meet(self._ranks.cluster, run.config, resume=resume, folder=folder)

    def elsewhere(self, shard: Shard, why: UnsoundCheckpoint) -> Mapping[str, NDArray[Any]] | None:
        """Returns the arrays of a shard that cannot be read here, from the rank that wrote it; None: it is not there.

        Raises:
            UnsoundCheckpoint: It cannot be read there, either.
        """
        if self._ranks is None or shard.rank not in self._links:
            return None
        self._links[shard.rank].send(Kind.SHARD, 0, json.dumps(asdict(shard)).encode())
        content = self._ranks.cluster.hear(shard.rank, Kind.SHARD, 0)
        about, arrays = ({"why": "It is lost."}, {}) if content is None else unpack(content)
        if about["why"]:
            raise UnsoundCheckpoint(f"{why} Nor can it be used at rank {shard.rank}: {about['why']} Restore it.")
        return arrays

    def found(self) -> None:
        """Tells the others of a run that goes on that they will not be asked for shards any more."""
        for link in self._links.values():
            link.send(Kind.SHARD, 0)

    def hear(self, event: int) -> Heard:
        """Returns what the others have written after an event, as soon as they have."""
        heard: dict[int, Shard | str | None] = {}
        for rank in sorted(self._links):
            assert self._ranks is not None
            content = self._ranks.cluster.hear(rank, Kind.SHARD, event)
            said = None if content is None else json.loads(bytes(content))
            heard[rank] = said
            if isinstance(said, dict):
                shard = heard[rank] = Shard(event, rank, **said)
                self._ranks.written[rank] = asdict(shard)
        return heard

    def write(self, heard: Heard, store: Store, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint with the shards of others; of ranks that are lost, with what is remembered of them.

        Returns:
            Where it is.

        Raises:
            OSError: It cannot be written, or a rank could not write its shard.
        """
        shards: list[Shard] = []
        for rank, said in heard.items():
            if isinstance(said, str):
                raise OSError(said)
            if said is None:
                assert self._ranks is not None
                arrays = self._ranks.remembered(rank, self._run.state)
                said = store.save_shard(checkpoint.event, rank, arrays)
            shards.append(said)
        return store.save(replace(checkpoint, shards=tuple(shards)))

    def tell(self, heard: Heard, event: int, store: Store) -> None:
        """Tells the others which checkpoints there are after an event."""
        try:
            events: list[int] | None = store.events()
        except OSError:
            events = None  # nobody removes anything
        for rank, said in heard.items():
            if said is not None:
                self._links[rank].send(Kind.SHARD, event, json.dumps(events).encode())


class Contributing:
    """What a rank that is not the first writes of a run: shards.

    Args:
        run: The run, which is not begun.
        resume: Whether there is a part of it, after which it goes on: then rank 0 may ask for what is here of that.
        within: Where this rank writes the comparison that the run is of.

    Attributes:
        earlier: What this rank knows of that part, which is nothing: rank 0 tells it with the beginning.
        notes: What is to be said of it, which rank 0 says.

    Raises:
        RunFolderError: A rank cannot write anywhere; says which and why.
        ConfigError: One is lost.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, run: Run, *, resume: bool, within: Disk | None = None) -> None:
        assert isinstance(run.gathering, Ranks)
        self._run, self._cluster = run, run.gathering.cluster
        disk = meet(self._cluster, run.config, resume=resume, within=within)
        self._work, self._folder = disk.work, disk.folder
        self.earlier = Earlier.nothing()
        run.gathering.read_own = self._read
        if resume and not self._cluster.returning:
            self._serve()

    def _serve(self) -> None:
        """Sends rank 0 the shards that it asks for, until it asks no more."""
        store = Store(self._work / CHECKPOINTS)
        while (content := self._cluster.hear(0, Kind.SHARD, 0)) is not None and len(content):
            why, arrays = "", {}
            try:
                arrays = store.read_shard(Shard(**json.loads(bytes(content))))
            except UnsoundCheckpoint as error:
                why = str(error)
            self._cluster.links[0].send(Kind.SHARD, 0, pack({"why": why}, arrays))

    def _read(self, said: Mapping[str, Any]) -> Mapping[str, NDArray[Any]] | None:
        """Returns what is here of the clients here after an event, as rank 0 was told; None where it is not."""
        try:
            return Store(self._work / CHECKPOINTS).read_shard(Shard(**said))
        except UnsoundCheckpoint:
            return None

    def add(self, record: RoundRecord) -> None:
        """Writes a shard after a round, where one is due, and removes those that do not count any more."""
        state, rank = self._run.state, self._cluster.rank
        if not is_due(self._run) or 0 in self._cluster.lost:
            return
        self._cluster.links[0].send(Kind.SHARD, state.event, json.dumps(self._write()).encode())
        content = self._cluster.hear(0, Kind.SHARD, state.event)
        events = None if content is None else json.loads(bytes(content))
        if events is not None:
            with suppress(OSError):  # what is not removed now is with the next
                Store(self._work / CHECKPOINTS).keep(events, rank)

    def _write(self) -> dict[str, Any] | str:
        """Returns what a manifest is to say of the shard that was written, or why none was."""
        state, rank = self._run.state, self._cluster.rank
        try:
            store = Store(self._work / CHECKPOINTS)
            if self._folder is not None:
                store = self._folder.store(state.run_id.hex())  # has the folder know that it is its own
            return store.save_shard(state.event, rank, state.rows()).said
        except (OSError, RunFolderError) as error:
            return f"rank {rank} ({socket.gethostname()}): {reason(error)}"

    def finish(self) -> None:
        """Ends the run here: where its folder is this rank's, that takes the place of an earlier one.

        Raises:
            RunFolderError: It cannot.
        """
        if self._folder is not None:
            self._folder.finish()

    def close(self) -> None:
        """Gives up the folder where it is this rank's."""
        if self._folder is not None:
            self._folder.close()
