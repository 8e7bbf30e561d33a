"""Reads a history: which metric it is about, the last measured value, totals, one row per client."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from declora.errors import ConfigError
from declora.metrics import METRICS, Metric

__all__ = [
    "PHASES",
    "best_measured",
    "client_totals",
    "column",
    "common_metric",
    "finite",
    "last_measured",
    "metric_of",
    "phase_seconds",
    "total_bytes",
]

PHASES = ("train", "encode", "exchange", "mix", "evaluate")
"""Phases of a round, in order; the column of one is `seconds_<phase>`."""


def column(history: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Returns a column as float64 `[rounds]`, NaN where it was not measured (everywhere, if it is absent)."""
    if name not in history:
        return np.full(len(history), np.nan)
    return np.asarray(pd.to_numeric(history[name]).to_numpy(dtype=np.float64, na_value=np.nan))


def metric_of(history: pd.DataFrame) -> Metric | None:
    """Returns the headline metric of a history, None if it measured none.

    It is the one that the column `metric` names; in a history without that column, the first of `METRICS` that was
    measured at least once.
    """
    named = list(history["metric"].dropna().unique()) if "metric" in history else []
    for metric in [METRICS[str(name)] for name in named] or METRICS.values():
        if any(np.isfinite(column(history, name)).any() for name in (metric.average, metric.clients("mean"))):
            return metric
    return None


def common_metric(histories: Iterable[pd.DataFrame]) -> Metric | None:
    """Returns the one headline metric of several histories, None if none measured any.

    Raises:
        ConfigError: some are about one metric and others about another.
    """
    found = {metric.name: metric for history in histories if (metric := metric_of(history))}
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise ConfigError(f"histories mix {names}: compare runs of one metric; make one comparison for each.")
    return next(iter(found.values()), None)


def last_measured(history: pd.DataFrame, name: str) -> float:
    """Returns the last finite value of a column, NaN if there is none."""
    values = column(history, name)
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


def best_measured(history: pd.DataFrame, name: str, metric: Metric) -> tuple[float, float]:
    """Returns the best finite value of a column of `metric` and the (first) round that had it; NaN if there is none."""
    values, rounds = column(history, name), column(history, "round")
    if not np.isfinite(values).any():
        return float("nan"), float("nan")
    best = int(np.nanargmax(values) if metric.higher_is_better else np.nanargmin(values))
    return float(values[best]), float(rounds[best])


def finite(value: object) -> float | None:
    """Returns a value as a float, None if it is no finite number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def phase_seconds(history: pd.DataFrame) -> dict[str, float]:
    """Returns the seconds of all rounds spent in each phase that was measured."""
    totals = {phase: column(history, f"seconds_{phase}") for phase in PHASES}
    return {phase: float(np.nansum(values)) for phase, values in totals.items() if np.isfinite(values).any()}


def total_bytes(history: pd.DataFrame) -> float:
    """Returns the bytes that all clients sent in all rounds, NaN if they were not counted."""
    total = last_measured(history, "bytes_total")
    sent = column(history, "bytes_sent")
    return float(np.nansum(sent)) if np.isnan(total) and np.isfinite(sent).any() else total


def client_totals(clients: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per client: the last measured value of each measure, the sum of `bytes_sent`, `samples_seen`.

    Args:
        clients: one row per round and client, with the columns `round`, `client`, perhaps `name`, and any measures;
            digests are none.
    """
    if "name" in clients:
        totals = client_totals(clients.drop(columns="name"))
        names = clients.drop_duplicates("client").set_index("client")["name"]
        totals.insert(1, "name", totals["client"].map(names))
        return totals
    clients = clients.drop(columns=[name for name in clients.columns if name.endswith("_digest")])
    measures = list(clients.columns.drop(["round", "client"]))
    order = np.argsort(column(clients, "round"), kind="stable")
    frame = pd.DataFrame({name: column(clients, name)[order] for name in measures}, index=range(len(clients)))
    groups = frame.where(np.isfinite(frame)).groupby(clients["client"].to_numpy()[order], sort=True)
    totals = groups.last()  # of what was measured: without NaN
    sums = [name for name in ("bytes_sent", "samples_seen") if name in measures]
    totals[sums] = groups[sums].sum()
    return totals.rename_axis("client").reset_index()[[name for name in clients.columns if name != "round"]]
