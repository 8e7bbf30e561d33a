"""Keeps finished runs on disk, so that none is run twice: one folder each, complete once its `result.json` is there."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from declora.experiments.plan import Job
from declora.outputs import keeping
from declora.report import RunFolder, RunLog, choose_links, read_metrics
from declora.result import SimulationResult
from declora.run import RoundRecord

__all__ = ["Finished", "Recorder", "Store"]

RESULT = "result.json"
FORMAT = 2
"""Of `result.json`; a run written in another one is not found."""


@dataclass(frozen=True)
class Finished:
    """Holds what a table and its figures need of one run.

    Attributes:
        history: One row per round.
        facts: Plain values: metric, codec, clients, local work, bytes of split training, facts of graph and data, label
            counts, the links that pictures show, environment.
    """

    history: pd.DataFrame
    facts: dict[str, Any]


class Store:
    """Keeps the finished runs under `root`, each in a folder that its settings name."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, job: Job) -> Path:
        """Returns the folder of a run."""
        return self.root / job.key

    def load(self, job: Job) -> Finished | None:
        """Returns a run that was finished, None where it was not (or its folder is damaged)."""
        folder = self.path(job)
        try:
            facts = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            history = read_metrics(folder).drop(columns="clients")
        except (OSError, ValueError, KeyError):
            return None
        whole = facts.get("format") == FORMAT and len(history) == job.config.rounds
        return Finished(history, facts) if whole else None

    def record(self, job: Job) -> "Recorder":
        """Returns what a run writes itself into; an unfinished earlier attempt is replaced when it has finished."""
        return Recorder(RunFolder(self.path(job), overwrite=True), job)


class Recorder:
    """Writes one run: its settings first, a line a round, and last of all `result.json`."""

    def __init__(self, folder: RunFolder, job: Job) -> None:
        self._folder = folder
        self._log = RunLog(folder, job.config.describe())

    def round(self, record: RoundRecord) -> None:
        """Appends a round."""
        self._log.add(record)

    def finish(self, result: SimulationResult) -> Finished:
        """Writes the averaged adapter and what there is to say of the run.

        Raises:
            RunFolderError: It cannot be written; the error's `result` is the run.
        """
        with keeping(result, self._folder):
            self._folder.write_folders({"adapter": result.average.save_pretrained})
            self._log.complete()
            facts = _facts(result)
            self._folder.write_json(RESULT, facts)
            self._folder.finish()
        return Finished(result.history, facts)

    def close(self) -> None:
        """Gives the folder up; a run that did not finish is run again."""
        self._folder.close()


def _facts(result: SimulationResult) -> dict[str, Any]:
    federation = result.federation
    talks = not federation.exchange.silent
    links, count = choose_links(federation.topology.round(0) if talks else [])
    return {
        "format": FORMAT,
        "clients": federation.clients,
        "codec": federation.codec.name if talks else None,
        "graph": federation.topology.name if talks else None,
        "links": links.tolist(),
        "links_total": count,
        "spectral_gap": federation.topology.spectral_gap if talks else None,
        "local_work": result.local_work,
        "split_bytes": result.split_bytes,
        "facts": result.facts(),
        "labels": {str(name): counts.tolist() for name, counts in result.partition.counts.items()},
        "date": datetime.date.today().isoformat(),
        "environment": dict(result.environment),
    }
