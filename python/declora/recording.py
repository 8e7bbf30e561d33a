"""What a run writes while it goes on: a line a round, and checkpoints from which it can be taken up again."""

from declora.errors import RunFolderError
from declora.origin import describe_origin, differences
from declora.report import Earlier, RunFolder, RunLog
from declora.run import RoundRecord, Run
from declora.store import Checkpoint

__all__ = ["Recording"]


class Recording:
    """The rounds of one run on their way into its folder.

    Args:
        run: The run, which is not begun.
        folder: Its folder.
        resume: Whether the folder holds a part of it, after which it goes on.

    Attributes:
        log: Of the rounds.
        earlier: That part, None where the run begins.

    Raises:
        RunFolderError: The run cannot go on as it began; says by name what is different now. Nothing was written.
    """

    def __init__(self, run: Run, folder: RunFolder, *, resume: bool = False) -> None:
        config = run.config
        self._run = run
        self._origin = None if config.checkpoint_every is None else describe_origin(run)
        self.earlier = Earlier.read(folder.work) if resume else None
        self._planned = [[0, config.rounds]]
        if self.earlier is not None and self.earlier.checkpoint is not None:
            self._take_up(f"path={str(folder.root)!r}", self.earlier.checkpoint)
        self.log = RunLog(folder, config.describe(), tensorboard=config.tensorboard, earlier=self.earlier)

    def add(self, record: RoundRecord) -> None:
        """Writes a round, and the run's state after it where a checkpoint is due."""
        self.log.add(record)
        config, state = self._run.config, self._run.state
        if config.checkpoint_every is None:
            return
        if state.event % config.checkpoint_every == 0 or state.event == config.rounds:
            about = {"origin": self._origin, "planned": self._planned}
            self.log.save(Checkpoint(state.run_id.hex(), state.event, state.arrays(), about))

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

    def _take_up(self, field: str, checkpoint: Checkpoint) -> None:
        """Goes on with what was planned before, which more rounds may change from here on.

        Raises:
            RunFolderError: The rounds to come would not be those that the run would have had.
        """
        config, about = self._run.config, checkpoint.about
        if checkpoint.event > config.rounds:
            raise RunFolderError(
                f"rounds={config.rounds}: the run in {field} has finished {checkpoint.event}. Ask for at least as many."
            )
        if changed := differences(about["origin"], self._origin or {}):
            raise RunFolderError(
                f"{field} cannot go on as it began: {'; '.join(changed)}. Go on with what it was begun with, or begin "
                "it again."
            )
        self._planned = list(about["planned"])
        if config.rounds != self._planned[-1][1]:
            self._planned.append([checkpoint.event, config.rounds])
