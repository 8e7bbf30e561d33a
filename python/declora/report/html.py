"""Writes reports as one HTML page that needs nothing else: for one run, and for several side by side."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from declora.metrics import Metric
from declora.report import plots, words
from declora.report.beside import Beside
from declora.report.comparison import best_rows
from declora.report.json_lines import METRICS as ROUNDS
from declora.report.page import (
    definitions,
    figure_card,
    flatten,
    folded,
    grid,
    key,
    listing,
    page,
    section,
    show,
    table,
    tile,
    tiles,
)
from declora.report.records import (
    best_measured,
    client_totals,
    column,
    common_metric,
    last_measured,
    metric_of,
    phase_seconds,
    total_bytes,
)
from declora.report.style import looks_of
from declora.report.tables import cut, format_bytes, format_seconds, format_value

__all__ = ["CLIENTS", "RunSummary", "cards", "comparison_report", "file_name", "run_report"]

CLIENTS = "clients.csv"
"""Name of the file with a row per client."""


@dataclass(frozen=True)
class RunSummary:
    """Holds what a report says about one run; plain values only.

    Attributes:
        title: title of the page.
        config: the settings, by name; may be nested.
        history: one row per round.
        clients: one row per round and client; may be empty.
        local_work: what K means, e.g. `5 steps`.
        facts: what is worth knowing of the graph and the data, e.g. `{"spectral gap": "0.13"}`.
        figures: (caption, figure) of the graph, the label counts, ...; one that was built inside
            `house_style()` follows dark mode.
        says: what is to be seen in a figure, a sentence, by its caption.
        environment: versions, machine and seed.
        tables: (caption, table), e.g. the label counts per client; columns may have a user's names. All of a large one
            is looked for beside the page, in the CSV file that `file_name` names.
        usage: lines of code that use what the run made.
        rerun: the command line or the TOML of the config that gives this run again.
        usual: the settings that are as they are by default, by name: they are folded.
        baselines: what the headline metric is without a model, by name (`largest class`, `chance`).
        before: what the common first adapter scored, before any training; NaN where it was not measured.
        norm: the root mean square of the adapters' norms, which the consensus distance is held against; NaN: nothing.
    """

    title: str
    config: Mapping[str, object]
    history: pd.DataFrame
    clients: pd.DataFrame = field(default_factory=pd.DataFrame)
    local_work: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[tuple[str, Figure]] = ()
    says: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    usage: str = ""
    rerun: str = ""
    usual: Collection[str] = ()
    baselines: Mapping[str, float] = field(default_factory=dict)
    before: float = math.nan
    norm: float = math.nan

    @cached_property
    def client_totals(self) -> pd.DataFrame:
        """Returns one row per client, see `declora.report.records.client_totals`; empty where `clients` is."""
        return client_totals(self.clients) if len(self.clients) else pd.DataFrame()


def file_name(caption: str, ending: str) -> str:
    """Returns the name of the file beside the page that holds the figure or table with this caption."""
    return f"{caption.lower().replace(' ', '-')}.{ending}"


def run_report(summary: RunSummary) -> str:
    """Returns the page of one run: headline numbers, plots, graph and data, rounds, clients, settings."""
    history = summary.history
    clients = summary.clients if len(summary.clients) else None
    pictures = [
        figure_card(figure, says, caption=says if says == caption else f"{caption}. {says}")
        for caption, figure in summary.figures
        for says in [summary.says.get(caption, caption)]
    ]
    tables = [
        table(frame, title=caption, file=file_name(caption, "csv"), literal=True) for caption, frame in summary.tables
    ]
    panels = plots.run_panels(history, clients, baselines=summary.baselines, before=summary.before)
    body = [
        tiles(_tiles(summary)),
        section("Course of the run", cards(panels)),
        section(
            "Graph and data",
            grid([*pictures, definitions(summary.facts, title="Facts")]),
            folded("Tables of the data", *tables),
        ),
        section("Evaluated rounds", table(_evaluated(history), file=ROUNDS)),
        section("Clients", table(summary.client_totals, note=_CLIENTS_NOTE, file=CLIENTS)),
        section(
            "Use it, run it again",
            listing("Use this adapter", summary.usage, note=_USAGE_NOTE),
            listing("Run it again", summary.rerun),
        ),
        section("Settings", *_of_settings(summary)),
    ]
    lead = words.of_run(history, summary.baselines, summary.before)
    return page(summary.title, _subtitle(summary), "\n".join(part for part in body if part), lead=lead)


def comparison_report(
    numbers: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame],
    configs: Mapping[str, Mapping[str, object]],
    *,
    title: str = "Comparison",
    beside: Beside | None = None,
) -> str:
    """Returns the page of several runs: one table, overlaid plots, and the settings in which they differ.

    Args:
        numbers: what `comparison_table` returns for the runs.
        histories: history of each run under its label.
        configs: settings of each run under its label; may be nested.
        title: title of the page.
        beside: what they are held against.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    beside = beside or Beside()
    same, different = _settings(configs)
    looks = looks_of(list(histories), _kinds(different), beside.works)
    panels = plots.comparison_panels(histories, looks, baselines=beside.baselines, before=beside.before)
    metric = common_metric(histories.values())
    lead = words.of_comparison(histories, metric, beside)
    body = [
        section(
            "Results", table(_quality_first(numbers, metric), note=_COMPARISON_NOTE, best=best_rows(numbers, metric))
        ),
        section("Course of the runs", key(looks), cards(panels)),
        section(
            "Settings",
            table(different, title="Where the runs differ", literal=True),
            folded("The same in all runs", definitions(same)),
        ),
    ]
    count = len(histories)
    subtitle = f"{count} run{'s' if count != 1 else ''}: {', '.join(map(cut, histories))}"
    return page(title, subtitle, "\n".join(part for part in body if part), lead=lead)


def cards(panels: Sequence[plots.Panel]) -> str:
    """Returns panels as cards side by side, without those that show what another one shows, or nothing.

    Lines get the names of their runs at their ends where these are few.
    """
    shown = []
    for panel in panels:
        if panel.news:
            figure = plots.card(panel)
            shown.append(figure_card(figure, panel.says or panel.name, caption=panel.says))
    return grid(shown)


_OF_A_ROUND = {"bytes_sent": "bytes_total", "samples_seen": "samples_total"}
"""Columns that a table of some rounds leaves out for their running totals."""
_WORK = ("local_steps", "local_epochs", "rounds")
"""Settings that say how much is done between two messages, and how often, not what."""
_USAGE_NOTE = "Paths are those of the run's folder."
_CLIENTS_NOTE = "Each client's own model where it was last measured; samples and bytes over the whole run."
_COMPARISON_NOTE = (
    "Last: after the last round. Best: over the evaluated rounds, chosen on the evaluation data itself. The averaged "
    "model is one model; the figures of clients are of their own models. Relative bytes: against the first run without "
    "compression, else the first run."
)


def _tiles(summary: RunSummary) -> list[str]:
    history = summary.history
    shown = []
    metric = metric_of(history)
    if metric:
        mean = metric.clients("mean")
        low, high = (format_value(metric.name, last_measured(history, metric.clients(s))) for s in ("min", "max"))
        shown.append(_quality_tile(f"{metric.title}, averaged model", history, metric.average, metric))
        floor = {**summary.baselines, "before training": summary.before}
        known = {name: value for name, value in floor.items() if math.isfinite(value)}
        if known:
            name, value = max(known.items(), key=lambda item: item[1] if metric.higher_is_better else -item[1])
            others = [f"{own} {format_value(metric.name, known[own])}" for own in known if own != name]
            shown.append(tile(f"{metric.title}, {name}", format_value(metric.name, value), "; ".join(others)))
        shown.append(_quality_tile(f"{metric.title}, clients' mean", history, mean, metric, f"min {low}, max {high}"))
    count = summary.clients["client"].nunique() if "client" in summary.clients else 0
    total = total_bytes(history)
    each = f"{format_bytes(total / (count * len(history)))} per client and round" if count and len(history) else ""
    shown.append(tile("Bytes sent", format_bytes(total), each))
    factors, products = (last_measured(history, f"{name}_distance") for name in ("consensus", "product"))
    share = f"{factors / summary.norm:.1%} of the adapters' norm" if summary.norm > 0 else "RMS distance to the mean"
    note = f"of products B A {format_value('product_distance', products)}" if math.isfinite(products) else ""
    shown.append(
        tile("Consensus distance", format_value("consensus_distance", factors), "; ".join(filter(None, [share, note])))
    )
    phases = phase_seconds(history)
    seconds = sum(phases.values()) if phases else math.nan
    share = f"{phases['train'] / seconds:.0%} of it training" if phases.get("train") else ""
    shown.append(tile("Time in the rounds", format_seconds(seconds), share))
    return shown


def _quality_tile(name: str, history: pd.DataFrame, source: str, metric: Metric, more: str = "") -> str:
    """Returns the tile of a column: its last value, and below it the best one and both their rounds."""
    rounds = column(history, "round")
    measured = rounds[np.isfinite(column(history, source))]
    best, when = best_measured(history, source, metric)
    notes = [more] if more else []
    if len(measured):
        notes.append(f"after round {measured[-1]:.0f} of {rounds[-1]:.0f}")
        notes.append(f"best {format_value(metric.name, best)} after round {when:.0f}")
    return tile(name, format_value(metric.name, last_measured(history, source)), "; ".join(notes))


def _subtitle(summary: RunSummary) -> str:
    count = summary.clients["client"].nunique() if len(summary.clients) else None
    rounds = len(summary.history)
    parts = [f"{count} client{'s' if count != 1 else ''}"] if count is not None else []
    parts.append(f"{rounds} round{'s' if rounds != 1 else ''}")
    if summary.local_work:
        parts.append(f"K = {summary.local_work}")
    return ", ".join(parts)


def _evaluated(history: pd.DataFrame) -> pd.DataFrame:
    metric = metric_of(history)
    names = [name for name in (metric.average, metric.clients("mean")) if name in history] if metric else []
    rows = history[history[names].notna().any(axis=1)] if names else history
    phases = [name for name in rows.columns if name.startswith("seconds_")]
    hidden = ["metric", "state_digest", "faults_digest", *phases]
    hidden += [name for name, total in _OF_A_ROUND.items() if total in rows]
    shown = rows.drop(columns=hidden, errors="ignore").dropna(axis=1, how="all")
    return shown.assign(seconds=rows[phases].sum(axis=1)) if phases else shown


def _of_settings(summary: RunSummary) -> list[str]:
    """Returns the settings that are not as by default, the others, and where it ran; the latter two are folded."""
    changed = {name: value for name, value in summary.config.items() if name not in summary.usual}
    usual = {name: value for name, value in summary.config.items() if name in summary.usual}
    return [
        definitions(changed, title="Settings that were changed" if usual else "Settings"),
        folded(f"{len(usual)} settings as by default", definitions(usual)) if usual else "",
        folded("Versions and machine", definitions(summary.environment)),
    ]


def _quality_first(numbers: pd.DataFrame, metric: Metric | None) -> pd.DataFrame:
    """Returns a table with its scores next to the names of the runs: on a phone, little more is in sight."""
    if metric is None:
        return numbers
    scores = [name for name in numbers if str(name).startswith((metric.average, f"clients_{metric.name}_"))]
    return numbers[["method", *scores, *numbers.columns.drop(["method", *scores])]]


def _kinds(different: pd.DataFrame) -> dict[str, Hashable]:
    """Returns what each run is but for its local work: its values of the settings in which runs differ."""
    # By place: a run may be called as the column of names is.
    kept = different[~different.iloc[:, 0].isin(_WORK).to_numpy()]
    return {str(label): tuple(kept.iloc[:, i]) for i, label in enumerate(different.columns) if i}


def _settings(configs: Mapping[str, Mapping[str, object]]) -> tuple[dict[str, object], pd.DataFrame]:
    """Returns the settings that all runs have in common, and a table of the others with a column per run."""
    shown = [{name: show(value) for name, value in flatten(config).items()} for config in configs.values()]
    names = list(dict.fromkeys(name for config in shown for name in config))
    values = {name: [config.get(name, "–") for config in shown] for name in names}
    same: dict[str, object] = {name: texts[0] for name, texts in values.items() if len(set(texts)) == 1}
    rows = [[name, *texts] for name, texts in values.items() if name not in same]
    return same, pd.DataFrame(rows, columns=["setting", *configs])
