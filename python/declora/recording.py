"""What a run writes while it goes on: a line a round, and checkpoints from which it can be taken up again."""

from functools import partial
from pathlib import Path

from declora.disks import Disk
from declora.errors import RunFolderError
from declora.ledger import KEYS, LEDGER, Keys, Ledger
from declora.origin import describe_origin, differences, keep_groups
from declora.ranks import Ranks
from declora.report import Earlier, RunFolder, RunLog
from declora.report.belongings import CHECKPOINTS
from declora.report.folder_errors import reporting
from declora.report.json_lines import whole_lines
from declora.run import RoundRecord, Run
from declora.shards import Collecting, Contributing, is_due
from declora.store import Checkpoint, Store

__all__ = ["Recording", "planned_since", "recording_of"]


def planned_since(checkpoint: Checkpoint | None, rounds: int) -> list[tuple[int, int]]:
    """Returns how many rounds a run has planned, since which event: the learning rate goes by that.

    Args:
        checkpoint: After which it goes on.
        rounds: How many there shall be now.
    """
    if checkpoint is None or "planned" not in checkpoint.about:
        return [(0, rounds)]
    before = [(event, planned) for event, planned in checkpoint.about["planned"]]
    return before if before[-1][1] == rounds else [*before, (checkpoint.event, rounds)]


class Recording:
    """The rounds of one run on their way into its folder.

    Args:
        run: The run, which is not begun.
        folder: Its folder.
        resume: Whether the folder holds a part of it, after which it goes on.

    Attributes:
        log: Of the rounds.
        earlier: That part; nothing where the run begins.

    Raises:
        RunFolderError: The run cannot go on as it began; says by name what is different now. Nothing was written. Or
            another rank cannot write.
    """

    def __init__(self, run: Run, folder: RunFolder, *, resume: bool = False) -> None:
        config = run.config
        self._run, self._folder = run, folder
        self._others = Collecting(run, folder, resume=resume)
        self.earlier = Earlier.read(folder.work, self._others.elsewhere) if resume else Earlier.nothing()
        if resume:
            self._others.found()
        if self.earlier.checkpoint is not None:
            keep_groups(run, self.earlier.checkpoint.about.get("origin", {}))
        named = config.checkpoint_every is not None or config.ledger
        self._origin = describe_origin(run) if named else {}
        self._planned = planned_since(self.earlier.checkpoint, config.rounds)
        if self.earlier.checkpoint is not None:
            self._check(f"path={str(folder.root)!r}", self.earlier.checkpoint)
        ledger = self._open_ledger(folder) if config.ledger else None
        if named:
            folder.store(self.earlier.run)  # has the folder know the run from its first round on
        done = self.earlier if resume else None
        self.log = RunLog(folder, config.describe(), tensorboard=bool(config.tensorboard), earlier=done, ledger=ledger)

    def add(self, record: RoundRecord) -> Path | None:
        """Writes a round, and the run's state after it where a checkpoint is due; returns the checkpoint's folder."""
        self.log.add(record)
        if not is_due(self._run):
            return None
        state, about = self._run.state, {"origin": self._origin, "planned": self._planned}
        checkpoint = Checkpoint(state.run_id.hex(), state.event, state.rows() | state.shared(), about)
        heard = self._others.hear(state.event)
        written = self.log.save(checkpoint, partial(self._others.write, heard))
        self._others.tell(heard, state.event, Store(self._folder.work / CHECKPOINTS))
        return written

    def close(self) -> None:
        """Closes the log; the folder stays with whom it belongs to."""
        self.log.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What of having gone on with more rounds changes results, in whole sentences."""
        config = self._run.config
        if len(self._planned) == 1 or (config.schedule == "constant" and config.warmup == 0):
            return ()
        (_, planned), (event, rounds) = self._planned[-2:]
        return (
            f"The learning rate went along the {config.schedule} schedule of {planned} rounds until round {event}, and "
            f"from there along that of {rounds}: {rounds} rounds from the start give another result.",
        )

    def _open_ledger(self, folder: RunFolder) -> Ledger:
        """Returns the ledger with a record for each round that there is.

        The same keys sign the same digests alike, so what it held of these rounds has to be what it holds now.
        """
        if self.earlier.checkpoint is None:
            keys = Keys.draw(self._run.federation.clients)
            return Ledger(keys, run=self.earlier.run, origin=self._origin)
        field = f"path={str(folder.root)!r}"
        with reporting(field, f": {KEYS!r} cannot be read", "Restore it from a copy: without it nobody can sign"):
            keys = Keys.load((folder.work / KEYS).read_bytes(), field=f"{field}: {KEYS!r}")
        with reporting(field, f": {LEDGER!r} cannot be read", "Change its permissions"):
            before = whole_lines(folder.work / LEDGER)
        ledger = Ledger(keys, run=self.earlier.run, origin=self._origin)
        for record in self.earlier.records:
            ledger.add(record)
        for number, (then, now) in enumerate(zip(before, ledger.lines, strict=False)):
            if then != now:
                raise RunFolderError(
                    f"{field}: record {number} of {LEDGER!r} is not the one that the run wrote. Restore it from a "
                    f"copy; `declora audit {folder.root}` says more."
                )
        return ledger

    def _check(self, field: str, checkpoint: Checkpoint) -> None:
        """Refuses a run whose rounds to come would not be those that it would have had."""
        rounds = self._run.config.rounds
        if checkpoint.event > rounds:
            raise RunFolderError(
                f"rounds={rounds}: the run in {field} has finished {checkpoint.event}. Ask for at least as many."
            )
        if changed := differences(checkpoint.about.get("origin", {}), self._origin):
            raise RunFolderError(
                f"{field} cannot go on as it began: {'; '.join(changed)}. Go on with what it was begun with, or begin "
                "it again."
            )


def recording_of(
    run: Run, folder: RunFolder | None, *, resume: bool, within: Disk | None = None
) -> Recording | Contributing | None:
    """Returns what this process writes of a run while it goes on, None where that is nothing; all ranks call it alike.

    Args:
        run: The run, which is not begun.
        folder: Its folder, at rank 0 or in a run of one process, where one is wanted.
        resume: Whether the folder holds a part of it, after which it goes on.
        within: Where this process writes the comparison that the run is of.

    Raises:
        RunFolderError: The run cannot go on as it began, or a rank cannot write.
    """
    ranks = run.gathering if isinstance(run.gathering, Ranks) else None
    if ranks is not None:
        ranks.cluster.turn()
    if folder is not None:
        return Recording(run, folder, resume=resume)
    if ranks is not None and not ranks.leads and run.config.checkpoint_every is not None:
        return Contributing(run, resume=resume, within=within)
    return None
