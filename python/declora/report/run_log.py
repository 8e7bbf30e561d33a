"""Writes the rounds of a run while it goes on: into its folder, and to TensorBoard where that is asked for."""

import warnings
from collections.abc import Mapping
from dataclasses import replace

from declora.errors import RunFolderError
from declora.report.belongings import CHECKPOINTS
from declora.report.earlier import Earlier
from declora.report.folder_errors import reason, reporting
from declora.report.json_lines import METRICS
from declora.report.run_folder import RunFolder
from declora.report.tensorboard import TensorBoardLog
from declora.store import Checkpoint

__all__ = ["RunLog"]

_BOARD = "tensorboard"


class RunLog:
    """Writes `config.json`, and then each round as soon as it is measured, and checkpoints.

    A full disk or a removed folder does not end a run: a warning says it, and what is missing is written with a later
    round, at the latest by `complete`. A checkpoint that could not be written is not: there is a later one.

    Args:
        folder: the folder of the run.
        config: its settings.
        tensorboard: whether TensorBoard's events are written, too.
        earlier: what there is of the run, if it goes on; the rounds after that go.

    Raises:
        RunFolderError: the settings, or the rounds before, cannot be written.
        ConfigError: the package `tensorboard` is not installed.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, object],
        *,
        tensorboard: bool = False,
        earlier: Earlier | None = None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._records: list[Mapping[str, object]] = [] if earlier is None else list(earlier.records)
        self._written = 0
        self._warned: set[str] = set()
        self._board_error: RunFolderError | None = None
        self._board: TensorBoardLog | None = None
        if earlier is None:
            folder.write_json("config.json", config)
        else:
            self._rewrite()
        if tensorboard:
            self._board = TensorBoardLog(folder.work / _BOARD, after=None if earlier is None else earlier.event)
            folder.adopt(_BOARD)

    def add(self, record: Mapping[str, object]) -> None:
        """Writes a round, if that can be done now."""
        self._records.append(record)
        try:
            if self._written == len(self._records) - 1:
                self._folder.append_metrics(record)
                self._written += 1
            else:
                self._rewrite()
        except RunFolderError as error:
            self._warn(METRICS, f"{error} The run goes on, and tries again with the next round.")
        if self._board is not None:
            self._add_to_board(self._board, record)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, if that can be done now; the rounds before it are on the disk when it appears."""
        try:
            if self._written < len(self._records):
                self._rewrite()
            for name in (METRICS, *([_BOARD] if self._board is not None else [])):
                self._folder.sync(name)
            store = self._folder.store(checkpoint.run)
            about = {**checkpoint.about, "metrics": self._folder.describe_metrics()}
            field, fix = f"out={str(self._folder.root)!r}", "What was saved before stays"
            with reporting(field, f": {CHECKPOINTS!r} cannot be written", fix):
                store.save(replace(checkpoint, about=about))
        except RunFolderError as error:
            self._warn(CHECKPOINTS, f"{error} The run goes on, and tries again when the next checkpoint is due.")

    def complete(self) -> None:
        """Ends the log, and writes what could not be written before.

        Raises:
            RunFolderError: it still cannot be written, or TensorBoard's events are not whole.
        """
        self.close()
        if self._written < len(self._records):
            self._rewrite()
        if self._board_error is not None:
            raise self._board_error

    def close(self) -> None:
        """Closes the event file."""
        if self._board is not None:
            board, self._board = self._board, None
            try:
                board.close()
            except Exception as error:  # of its writer's thread, at the first call after it
                self._lose_board(error)

    def _rewrite(self) -> None:
        self._folder.write_json("config.json", self._config)
        self._folder.write_metrics(self._records)
        self._written = len(self._records)

    def _add_to_board(self, board: TensorBoardLog, record: Mapping[str, object]) -> None:
        try:
            board.log({name: value for name, value in record.items() if name != "clients"})
        except Exception as error:
            self._board = None
            self._lose_board(error)

    def _lose_board(self, error: Exception) -> None:
        self._board_error = RunFolderError(
            f"out={str(self._folder.root)!r}: {_BOARD!r} cannot be written: {reason(error)}. Its curves are not whole."
        )
        self._warn(_BOARD, f"{self._board_error} The run goes on without it.")

    def _warn(self, about: str, text: str) -> None:
        """Says once what of the folder cannot be written."""
        if about not in self._warned:
            warnings.warn(text, stacklevel=4)
        self._warned.add(about)
