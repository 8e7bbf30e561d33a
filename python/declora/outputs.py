"""Writes what a finished run and a finished comparison leave in their folders, and names the folders of runs."""

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from declora import process, report
from declora.adapters import Adapter
from declora.errors import ConfigError, RunFolderError
from declora.pages import comparison_title, run_summary, run_title
from declora.report import RunFolder, RunLog
from declora.report.belongings import MARKER, OWN
from declora.report.json_lines import METRICS
from declora.result import Comparison, SimulationResult

__all__ = ["adapter_folders", "folder_names", "keeping", "write_comparison", "write_run"]

_COMPARISON = ("config.json", "comparison.md", "comparison.png", "report.html")
_RESERVED = {*_COMPARISON, MARKER, METRICS}
_LONGEST = 200
"""Bytes of a folder's name: file systems take 255, and a run that is replaced has a longer name for a while."""


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Returns the name of each run's folder in that of the comparison: its label, without what paths may not have.

    Raises:
        ConfigError: A label gives no name, one that the comparison needs, one that is too long, or that of another run
            (also where capitals do not count, as on macOS and Windows).
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for label in labels:
        name = re.sub(r"[^\w.=+-]+", "_", unicodedata.normalize("NFC", label))
        folded = name.casefold()
        if not name.strip("."):
            raise ConfigError(f"compare has the label {label!r}, which cannot name a folder. Give the run another.")
        if folded in _RESERVED or folded.endswith(OWN):
            raise ConfigError(f"compare has the label {label!r}, which is a file of its folder. Give the run another.")
        if len(name.encode(errors="replace")) > _LONGEST:
            raise ConfigError(
                f"compare has a label of {len(label):,} characters ({label[:40]!r}...), too long for a folder. Give "
                "the runs shorter labels: {'a': {...}}."
            )
        if folded in taken:
            raise ConfigError(
                f"compare has the labels {taken[folded]!r} and {label!r}, which would share the folder {name!r}. "
                "Give the runs other labels: {'a': {...}}."
            )
        taken[folded] = label
        names[label] = name
    return names


def adapter_folders(result: SimulationResult) -> Mapping[str, Callable[[Path], object]]:
    """Returns the folders of a run's adapters, by name, with what writes each; the first is to be written first.

    Tokenizers may be large and clients many, so the files of the first folder's are those of all: hard links.
    """
    first: list[Path] = []

    def write_first(path: Path) -> None:
        result.average.save_pretrained(path)
        first.append(path)

    def write(path: Path, *, adapter: Callable[[], Adapter]) -> None:
        adapter().save_pretrained(path, tokenizer_of=first[-1] if first else None)

    clients = range(result.federation.clients)
    others = {"adapters/initial": lambda: result.initial} | {
        f"adapters/client-{client:04d}": partial(result.client, client) for client in clients
    }
    return {"adapters/average": write_first} | {
        name: partial(write, adapter=adapter) for name, adapter in others.items()
    }


def write_run(folder: RunFolder, result: SimulationResult, label: str, log: RunLog) -> None:
    """Writes what a run leaves: its adapters first, as nothing else gives them back.

    Raises:
        RunFolderError: Something cannot be written; what was is there.
    """
    folder.write_folders(adapter_folders(result))
    log.complete()
    summary = run_summary(result, f"{label}: {run_title(result)}, {date.today().isoformat()}")
    folder.write_text(report.CLIENTS, summary.client_totals.to_csv(index=False))
    for caption, table in summary.tables:
        folder.write_text(report.file_name(caption, "csv"), table.to_csv(index=False))
    _save_figure(folder, "plots.png", result.plot())
    for caption, figure in summary.figures:
        _save_figure(folder, report.file_name(caption, "png"), figure)
    folder.write_text("report.html", report.run_report(summary))


def write_comparison(folder: RunFolder, comparison: Comparison) -> None:
    """Writes what a comparison leaves beside the folders of its runs.

    Raises:
        RunFolderError: Something cannot be written; what was is there.
    """
    folder.write_text("comparison.md", report.to_markdown(comparison.table))
    _save_figure(folder, "comparison.png", comparison.plot())
    histories = {label: result.history for label, result in comparison.results.items()}
    configs = {label: result.settings for label, result in comparison.results.items()}
    for config in configs.values():
        del config["out"]  # each run's own, and no difference between them
    title = f"Comparison: {comparison_title(comparison)}, {date.today().isoformat()}"
    page = report.comparison_report(comparison.table, histories, configs, title=title, beside=comparison.beside)
    folder.write_text("report.html", page)


@contextmanager
def keeping(result: SimulationResult | Comparison, folder: RunFolder) -> Iterator[None]:
    """Turns whatever fails inside into a `RunFolderError` that holds `result`: a run is not lost to a report.

    Raises:
        RunFolderError: The folder cannot be completed.
    """
    try:
        yield
    except Exception as error:
        known = isinstance(error, RunFolderError)
        what = str(error) if known else f"out={str(folder.root)!r} cannot be completed: {_describe(error)}."
        failure = RunFolderError(
            f"{what} The run has finished: its result is in the error's `result`, and what was written in "
            f"{str(folder.work)!r}."
        )
        failure.result = result
        raise failure from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}, {report.reason(error)}"


@process.alone()  # matplotlib reads its settings while it draws
def _save_figure(folder: RunFolder, name: str, figure: Figure) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    folder.write_bytes(name, image.getvalue())
