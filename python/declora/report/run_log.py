"""Writes the rounds of a run while it goes on: into its folder, and to its ledger and TensorBoard where asked for."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from declora.errors import RunFolderError
from declora.ledger import KEYS, LEDGER, Ledger
from declora.report.belongings import CHECKPOINTS
from declora.report.earlier import Earlier
from declora.report.folder_errors import reason, reporting
from declora.report.json_lines import METRICS, line_of
from declora.report.line_file import LineFile
from declora.report.run_folder import RunFolder
from declora.report.tensorboard import TensorBoardLog
from declora.store import Checkpoint, Store

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
        ledger: with a record for each round that there is; kept in the folder, with its keys, where it is given.

    Raises:
        RunFolderError: the settings, the keys, or the rounds before, cannot be written.
        ConfigError: the package `tensorboard` is not installed.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, object],
        *,
        tensorboard: bool = False,
        earlier: Earlier | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._ledger = ledger
        self._metrics = LineFile(folder, METRICS, [] if earlier is None else [line_of(one) for one in earlier.records])
        self._files = [self._metrics, *([] if ledger is None else [LineFile(folder, LEDGER, ledger.lines)])]
        self._warned: set[str] = set()
        self._board_error: RunFolderError | None = None
        self._board: TensorBoardLog | None = None
        self._rewrite([file for file in self._files if earlier is not None or file.behind])
        if tensorboard:
            self._board = TensorBoardLog(folder.work / _BOARD, after=None if earlier is None else earlier.event)
            folder.adopt(_BOARD)

    def add(self, record: Mapping[str, object]) -> None:
        """Writes a round, if that can be done now."""
        self._metrics.lines.append(line_of(record))
        if self._ledger is not None:
            self._ledger.add(record)
        try:
            if all(file.behind == 1 for file in self._files):
                for file in reversed(self._files):  # the ledger may be ahead of what was measured, never behind
                    file.append()
            else:
                self._rewrite(self._files)
        except RunFolderError as error:
            self._warn(METRICS, f"{error} The run goes on, and tries again with the next round.")
        if self._board is not None:
            self._add_to_board(self._board, record)

    def save(self, checkpoint: Checkpoint, write: Callable[[Store, Checkpoint], Path] = Store.save) -> Path | None:
        """Writes a checkpoint, if that can be done now; the rounds before it are on the disk when it appears.

        Args:
            checkpoint: the state.
            write: what writes it.

        Returns:
            Where it is; None where it could not be written.
        """
        try:
            if self._behind:
                self._rewrite(self._files)
            for name in (*(file.name for file in self._files), *([_BOARD] if self._board is not None else [])):
                self._folder.sync(name)
            store = self._folder.store(checkpoint.run)
            about = {**checkpoint.about, "metrics": self._folder.describe_lines(METRICS)}
            field, fix = f"out={str(self._folder.root)!r}", "What was saved before stays"
            with reporting(field, f": {CHECKPOINTS!r} cannot be written", fix):
                return write(store, replace(checkpoint, about=about))
        except RunFolderError as error:
            self._warn(CHECKPOINTS, f"{error} The run goes on, and tries again when the next checkpoint is due.")
            return None

    def complete(self) -> None:
        """Ends the log, and writes what could not be written before.

        Raises:
            RunFolderError: it still cannot be written, or TensorBoard's events are not whole.
        """
        self.close()
        if self._behind:
            self._rewrite(self._files)
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

    @property
    def _behind(self) -> bool:
        return any(file.behind for file in self._files)

    def _rewrite(self, files: Sequence[LineFile]) -> None:
        self._folder.write_json("config.json", self._config)
        if self._ledger is not None:
            self._folder.write_bytes(KEYS, self._ledger.keys.dump(), private=True)
        for file in reversed(files):
            file.rewrite()

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
