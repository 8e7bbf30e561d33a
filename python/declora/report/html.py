"""Writes reports as one HTML page that needs nothing else: for one run, and for several side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from declora.metrics import Metric
from declora.report import plots
from declora.report.json_lines import METRICS as ROUNDS
from declora.report.page import definitions, figure_card, flatten, grid, page, section, show, table, tile, tiles
from declora.report.records import (
    best_measured,
    client_totals,
    column,
    last_measured,
    metric_of,
    phase_seconds,
    total_bytes,
)
from declora.report.style import house_style
from declora.report.tables import cut, format_bytes, format_seconds, format_value

__all__ = ["CLIENTS", "RunSummary", "comparison_report", "file_name", "run_report"]

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
        environment: versions, machine and seed.
        tables: (caption, table), e.g. the label counts per client; columns may have a user's names. All of a large one
            is looked for beside the page, in the CSV file that `file_name` names.
        rerun: the command line or the TOML of the config that gives this run again.
    """

    title: str
    config: Mapping[str, object]
    history: pd.DataFrame
    clients: pd.DataFrame = field(default_factory=pd.DataFrame)
    local_work: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[tuple[str, Figure]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    rerun: str = ""

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
    pictures = [figure_card(figure, caption, caption=caption) for caption, figure in summary.figures]
    tables = [
        table(frame, title=caption, file=file_name(caption, "csv"), literal=True) for caption, frame in summary.tables
    ]
    rerun = f'<div class="card"><h3>Run it again</h3><pre>{escape(summary.rerun)}</pre></div>' if summary.rerun else ""
    body = [
        tiles(_tiles(summary)),
        section("Course of the run", _cards(plots.run_panels(history, clients))),
        section("Graph and data", grid([*pictures, definitions(summary.facts, title="Facts")]), *tables),
        section("Evaluated rounds", table(_evaluated(history), file=ROUNDS)),
        section("Clients", table(summary.client_totals, note=_CLIENTS_NOTE, file=CLIENTS)),
        section("Settings and reproduction", _side_by_side(summary), rerun),
    ]
    return page(summary.title, _subtitle(summary), "\n".join(part for part in body if part))


def comparison_report(
    numbers: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame],
    configs: Mapping[str, Mapping[str, object]],
    *,
    title: str = "Comparison",
) -> str:
    """Returns the page of several runs: one table, overlaid plots, and the settings in which they differ.

    Args:
        numbers: what `comparison_table` returns for the runs.
        histories: history of each run under its label.
        configs: settings of each run under its label; may be nested.
        title: title of the page.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    same, different = _settings(configs)
    common = f"<details><summary>The same in all runs</summary>{definitions(same)}</details>" if same else ""
    body = [
        section("Results", table(numbers, note=_COMPARISON_NOTE)),
        section("Course of the runs", _cards(plots.comparison_panels(histories))),
        section("Settings", table(different, title="Where the runs differ", literal=True), common),
    ]
    count = len(histories)
    subtitle = f"{count} run{'s' if count != 1 else ''}: {', '.join(map(cut, histories))}"
    return page(title, subtitle, "\n".join(part for part in body if part))


_OF_A_ROUND = {"bytes_sent": "bytes_total", "samples_seen": "samples_total"}
"""Columns that a table of some rounds leaves out for their running totals."""
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
        shown.append(_quality_tile(f"{metric.title}, clients' mean", history, mean, metric, f"min {low}, max {high}"))
    count = summary.clients["client"].nunique() if "client" in summary.clients else 0
    total = total_bytes(history)
    each = f"{format_bytes(total / (count * len(history)))} per client and round" if count and len(history) else ""
    shown.append(tile("Bytes sent", format_bytes(total), each))
    factors, products = (last_measured(history, f"{name}_distance") for name in ("consensus", "product"))
    note = f"of products B A {format_value('product_distance', products)}" if math.isfinite(products) else ""
    shown.append(
        tile("Consensus distance", format_value("consensus_distance", factors), note or "RMS distance to the mean")
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


def _side_by_side(summary: RunSummary) -> str:
    return grid([definitions(summary.config, title="Settings"), definitions(summary.environment, title="Environment")])


def _settings(configs: Mapping[str, Mapping[str, object]]) -> tuple[dict[str, object], pd.DataFrame]:
    """Returns the settings that all runs have in common, and a table of the others with a column per run."""
    shown = [{name: show(value) for name, value in flatten(config).items()} for config in configs.values()]
    names = list(dict.fromkeys(name for config in shown for name in config))
    values = {name: [config.get(name, "–") for config in shown] for name in names}
    same: dict[str, object] = {name: texts[0] for name, texts in values.items() if len(set(texts)) == 1}
    rows = [[name, *texts] for name, texts in values.items() if name not in same]
    return same, pd.DataFrame(rows, columns=["setting", *configs])


def _cards(panels: Sequence[tuple[str, plots.Draw]]) -> str:
    cards = []
    for label, draw in panels:
        with house_style():
            figure = Figure(figsize=(4.6, 3.2), layout="constrained")
            ax = figure.add_subplot()
            draw(ax)
            if ax.get_legend() is None and len(ax.get_legend_handles_labels()[0]) > 1:
                ax.legend(loc="best")
        cards.append(figure_card(figure, label))
    return grid(cards)
