"""Numbers of an experiment: one row per cell, means and spreads over seeds, beside the paper's value."""

import math
from collections.abc import Mapping

import pandas as pd

from declora.errors import ConfigError
from declora.experiments.catalogue import PRINTED
from declora.experiments.plan import Plan
from declora.experiments.store import Finished
from declora.metrics import METRICS, Metric
from declora.report import format_bytes, format_seconds
from declora.report.records import best_measured, common_metric, last_measured, phase_seconds, total_bytes
from declora.report.tables import MISSING

__all__ = ["cost_table", "numbers", "quality_table", "run_numbers"]

_SCORES = ("average_last", "average_best", "clients_last", "clients_best", "worst_last")
_MEANS = ("samples", "consensus_distance", "bytes_per_client_round", "bytes_total", "seconds")


def run_numbers(plan: Plan, runs: Mapping[str, Finished]) -> pd.DataFrame:
    """Returns one row per run, of plain numbers (NaN where not measured).

    Columns: `task`, `row`, `seed`, `metric`, `local_work`; the headline metric of the averaged model after the last
    round and in its best one (`average_last`, `average_best`), the same of the mean over the clients' own models
    (`clients_last`, `clients_best`), and of the worst client (`worst_last`); `samples`, the training samples that all
    clients saw; `consensus_distance` (the last), `bytes_per_client_round`, `bytes_total` and `seconds`; `key`, the
    run's folder.
    """
    rows = []
    for job in plan.jobs:
        run = runs[job.key]
        row = {"task": job.task, "row": job.cell.label, "seed": job.config.seed, **_run_row(run), "key": job.key}
        rows.append(row)
    return pd.DataFrame(rows)


def _run_row(run: Finished) -> dict[str, object]:
    history, clients = run.history, int(run.facts["clients"])
    metric = common_metric([history])
    if metric is None:
        raise ConfigError("a run has no evaluation. Remove its folder and run it again.")
    mean = metric.clients("mean")
    sent = total_bytes(history)
    return {
        "metric": metric.name,
        "local_work": run.facts["local_work"],
        "average_last": last_measured(history, metric.average),
        "average_best": best_measured(history, metric.average, metric)[0],
        "clients_last": last_measured(history, mean),
        "clients_best": best_measured(history, mean, metric)[0],
        "worst_last": last_measured(history, metric.worst),
        "samples": last_measured(history, "samples_total"),
        "consensus_distance": last_measured(history, "consensus_distance"),
        "bytes_per_client_round": sent / (clients * len(history)),
        "bytes_total": sent,
        "seconds": sum(phase_seconds(history).values()),
    }


def numbers(plan: Plan, each: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per task and cell: means over seeds, and `_sd`, the sample standard deviation (NaN of one run).

    Args:
        plan: What was run.
        each: What `run_numbers` returned for it.

    Differences to the reference row are taken seed by seed, after the last round: of the averaged model
    (`difference`) and of the clients' mean (`difference_clients`). `paper` is what the paper prints, in the metric's
    own unit (a share).
    """
    rows = []
    for task in plan.tasks:
        for cell in plan.cells(task):
            own = _of(each, task, cell.label)
            row: dict[str, object] = {"experiment": plan.experiment.name, "task": task, "row": cell.label}
            row |= {
                "runs": len(own),
                "metric": own["metric"].iloc[0],
                "local_work": " / ".join(own["local_work"].unique()),
            }
            for name in _SCORES:
                row |= {name: own[name].mean(), f"{name}_sd": own[name].std()}
            row["reference"] = cell.reference
            for name, score in (("difference", "average_last"), ("difference_clients", "clients_last")):
                gap = own[score] - _of(each, task, cell.reference)[score] if cell.reference else own[score] * math.nan
                row |= {name: gap.mean(), f"{name}_sd": gap.std()}
            row |= {name: own[name].mean() for name in _MEANS}
            printed = PRINTED.get((plan.experiment.name, task, cell.label)) if plan.as_printed else None
            row |= {
                "paper": printed.value / 100 if printed else math.nan,
                "paper_tag": printed.tag if printed else "",
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _of(each: pd.DataFrame, task: str, label: str) -> pd.DataFrame:
    """Returns the runs of one row, by seed."""
    return each[(each["task"] == task) & (each["row"] == label)].set_index("seed")


def quality_table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the scores of one task's rows as text to read, with headings for column names."""
    metric = METRICS[table["metric"].iloc[0]]
    references = sorted(set(table["reference"]) - {""})
    to = f" to {references[0]}" if len(references) == 1 else ""
    columns = {
        "row": table["row"].tolist(),
        "K": table["local_work"].tolist(),
        "runs": [str(count) for count in table["runs"]],
        f"{metric.label} of averaged model, last": _spreads(table, "average_last", metric),
        "averaged, best": _spreads(table, "average_best", metric),
        "clients' mean, last": _spreads(table, "clients_last", metric),
        "clients' mean, best": _spreads(table, "clients_best", metric),
        f"difference{to}, averaged, last": _differences(table, "difference", metric, named=not to),
        "difference, clients' mean, last": _differences(table, "difference_clients", metric, named=False),
    }
    if table["paper"].notna().any():
        columns["paper (RoBERTa-base, best)"] = [
            f"{_number(value, metric)} [{tag}]" if tag else MISSING
            for value, tag in zip(table["paper"], table["paper_tag"], strict=True)
        ]
    return pd.DataFrame(columns)


def cost_table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns what one task's rows took, as text to read, with headings for column names; means over seeds."""
    return pd.DataFrame(
        {
            "row": table["row"].tolist(),
            "training samples": [f"{value:,.0f}" for value in table["samples"]],
            "consensus distance, last": [f"{value:#.3g}" for value in table["consensus_distance"]],
            "bytes of a client and round": [format_bytes(value) for value in table["bytes_per_client_round"]],
            "bytes in all": [format_bytes(value) for value in table["bytes_total"]],
            "time": [format_seconds(value) for value in table["seconds"]],
        }
    )


def _spreads(table: pd.DataFrame, name: str, metric: Metric) -> list[str]:
    scale = 100 if metric.percent else 1
    return [
        _with_spread(_digits(scale * mean, metric), _digits(scale * sd, metric), " %" * metric.percent)
        for mean, sd in zip(table[name], table[f"{name}_sd"], strict=True)
    ]


def _differences(table: pd.DataFrame, name: str, metric: Metric, *, named: bool) -> list[str]:
    """Returns differences with their sign, shares in points; `named` says of each to which row."""
    scale, texts = 100 if metric.percent else 1, []
    for mean, sd, reference in zip(table[name], table[f"{name}_sd"], table["reference"], strict=True):
        sign = "−" if mean < 0 else "+"
        text = _with_spread(f"{sign}{_digits(scale * abs(mean), metric)}", _digits(scale * sd, metric), "")
        texts.append(MISSING if math.isnan(mean) else f"{text} to {reference}" if named else text)
    return texts


def _with_spread(mean: str, sd: str, unit: str) -> str:
    if mean == MISSING:
        return MISSING
    return f"{mean}{unit}" if sd == MISSING else f"{mean} ± {sd}{unit}"


def _number(value: float, metric: Metric) -> str:
    return f"{_digits(100 * value, metric)} %" if metric.percent else _digits(value, metric)


def _digits(value: float, metric: Metric) -> str:
    """Two digits of what is in percent, three of the rest."""
    return MISSING if math.isnan(value) else f"{value:.2f}" if metric.percent else f"{value:.3f}"
