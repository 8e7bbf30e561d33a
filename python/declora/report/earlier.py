"""What a run left that is to go on: its newest sound checkpoint, and the rounds that it had measured by then."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from declora.errors import RunFolderError
from declora.report.belongings import CHECKPOINTS, Belongings
from declora.report.folder_errors import reporting
from declora.report.json_lines import METRICS, Written, whole_lines
from declora.store import Checkpoint, Elsewhere, Store, UnsoundCheckpoint

__all__ = ["Earlier", "load_checkpoint", "run_of"]


def load_checkpoint(
    folder: Path, check: Callable[[Checkpoint], None] = lambda found: None, elsewhere: Elsewhere | None = None
) -> Checkpoint | None:
    """Returns the newest sound checkpoint in a run folder, None where the run wrote none.

    Raises:
        OSError: it cannot be read.
        RunFolderError: there are checkpoints, and none of them is sound.
    """
    run = run_of(folder)
    return None if run is None else Store(folder / CHECKPOINTS).load(run, check, elsewhere)


def run_of(folder: Path) -> str | None:
    """Returns what names the run in a folder, None where it keeps no checkpoints."""
    belongings = Belongings.read(folder)
    return None if belongings is None else belongings.run


@dataclass(frozen=True)
class Earlier:
    """A part of a run, after which it goes on.

    Attributes:
        run: names the run.
        checkpoint: its newest sound one, None where it had not come to its first.
        records: the rounds before that, as `metrics.jsonl` holds them; later ones are run again.
    """

    run: str
    checkpoint: Checkpoint | None = None
    records: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def nothing(cls) -> "Earlier":
        """Returns what there is of a run that has not begun: its name, drawn here."""
        return cls(secrets.token_hex(16))

    @property
    def event(self) -> int:
        """The last event that is finished."""
        return 0 if self.checkpoint is None else self.checkpoint.event

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the run goes on, and why not later, in whole sentences."""
        if self.checkpoint is None:
            return ("There is no checkpoint yet, so the run begins at its start.",)
        return (*self.checkpoint.notes, f"The first {self.event} rounds are there already.")

    @classmethod
    def read(cls, folder: Path, elsewhere: Elsewhere | None = None) -> "Earlier":
        """Reads what is in a run folder, and changes nothing; `elsewhere` finds shards that are not in it.

        Raises:
            RunFolderError: it cannot be read; or there are checkpoints, and none of them is sound or fits
                `metrics.jsonl`.
        """
        with reporting(f"path={str(folder)!r}", " cannot be read", "Change its permissions"):
            return cls._read(folder, elsewhere)

    @classmethod
    def _read(cls, folder: Path, elsewhere: Elsewhere | None) -> "Earlier":
        lines = whole_lines(folder / METRICS)

        def check(found: Checkpoint) -> None:
            counted = found.about.get("metrics")
            count = counted.get("lines") if isinstance(counted, dict) else None
            if type(count) is not int or not 0 <= count <= len(lines):
                raise UnsoundCheckpoint(f"it counts on {count} lines of {METRICS}, which has {len(lines)}.")
            if Written(lines[:count]).describe() != counted:
                raise UnsoundCheckpoint(f"{METRICS} has other lines than those that it counts on.")

        found = load_checkpoint(folder, check, elsewhere)
        if found is None and not lines and Store(folder / CHECKPOINTS).shards():
            raise RunFolderError(
                f"path={str(folder)!r} holds what one rank wrote of its clients. Go on with the run over all its "
                "ranks, rank 0 where the rounds are."
            )
        kept = 0 if found is None else found.about["metrics"]["lines"]
        records = [json.loads(line) for line in lines[:kept]]
        return cls(run_of(folder) or secrets.token_hex(16), found, records)
