"""Computes the numbers of an experiment: one row per cell, means and spreads over seeds, beside the paper's value."""

import math
from collections.abc import Mapping

import pandas as pd

from declora.errors import ConfigError
from declora.experiments.catalogue import PRINTED
from declora.experiments.plan import Plan
from declora.experiments.store import Finished
from declora.report.records import best_measured, common_metric, last_measured, phase_seconds, total_bytes

__all__ = ["numbers", "run_numbers"]

_SCORES = ("average_last", "average_best", "clients_last", "clients_best", "worst_last")
_MEANS = (
    "samples",
    "consensus_distance",
    "product_distance",
    "bytes_per_client_round",
    "bytes_total",
    "seconds",
    "simulated_seconds",
)


def run_numbers(plan: Plan, runs: Mapping[str, Finished]) -> pd.DataFrame:
    """Returns one row per run, of plain numbers (NaN where not measured).

    Columns: `task`, `row`, `seed`, `metric`, `local_work`; the headline metric of the averaged model after the last
    round and in its best one (`average_last`, `average_best`), the same of the mean over the clients' own models
    (`clients_last`, `clients_best`), and of the worst client (`worst_last`); `samples`, the training samples that all
    clients saw; the last `consensus_distance`, of factors, and `product_distance`, of what they do;
    `bytes_per_client_round`, `bytes_total` and `seconds`, and `simulated_seconds` where the runs have a clock;
    `epsilon`, what the client that spent most of its privacy has spent; `key`, the run's folder.
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
        "product_distance": last_measured(history, "product_distance"),
        "bytes_per_client_round": sent / (clients * len(history)),
        "bytes_total": sent,
        "seconds": sum(phase_seconds(history).values()),
        "simulated_seconds": last_measured(history, "simulated_seconds"),
        "epsilon": last_measured(history, "epsilon"),
    }


def numbers(plan: Plan, each: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per task and cell: means over seeds, and `_sd`, the sample standard deviation (NaN of one run).

    Args:
        plan: What was run.
        each: What `run_numbers` returned for it.

    Differences to the reference row are taken seed by seed, after the last round: of the averaged model
    (`difference`) and of the clients' mean (`difference_clients`). `epsilon` is the most of all seeds. `paper` is what
    the paper prints, in the metric's own unit (a share).
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
            row["epsilon"] = own["epsilon"].max()
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
