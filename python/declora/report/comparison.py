"""Makes the table of several runs: last and best round, averaged model and clients, each under its own name."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from declora.errors import ConfigError
from declora.metrics import METRICS, Metric
from declora.report.records import best_measured, common_metric, last_measured, phase_seconds, total_bytes
from declora.report.tables import MISSING

__all__ = ["best_rows", "brief_table", "comparison_table"]


def comparison_table(
    histories: Mapping[str, pd.DataFrame],
    *,
    clients: int | Mapping[str, int] | None = None,
    codecs: Mapping[str, str] | None = None,
    local_work: Mapping[str, str] | None = None,
    norms: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Returns one row per run, in the order given, of plain numbers (NaN where not measured).

    Columns: `method` (the label); `samples_total`, the training samples that all clients saw; of the headline metric,
    `average_<metric>_last` and `_best` of the averaged model, `clients_<metric>_mean_last` and `_best`, the mean of the
    clients' own models, and the worst client's `clients_<metric>_min_last` (perplexity: `_max`); where answers were
    generated, the last exact match of both. *Last* is after the last round, which is what a run leaves behind; *best*
    is over the evaluated rounds, chosen on the evaluation data itself. Then the last `consensus_distance`, of factors,
    and `product_distance`, of what they do; `consensus_share`, the former over the adapters' norm, if `norms` is given;
    `bytes_total` of all clients; `bytes_per_client_round` if `clients` is given; `epsilon`, what the client that spent
    most of its privacy has spent, where a run counts it; `seconds` in all phases; `bytes_ratio`, the bytes over those
    of the first run with codec `none`, else of the first run.

    Args:
        histories: history of each run under its label.
        clients: number of clients, of all runs or by label.
        codecs: codec name by label, shown as a column.
        local_work: what K means by label, shown as a column (`5 steps`, `1 epoch (12 to 17 steps)`).

        norms: root mean square of the adapters' norms after the last round, by label.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    if not histories:
        raise ConfigError("histories={} holds no run to compare: give at least one.")
    metric = common_metric(histories.values())
    codecs = codecs or {}
    answers = _answers(histories.values(), metric)
    private = any(math.isfinite(last_measured(history, "epsilon")) for history in histories.values())
    rows = []
    for label, history in histories.items():
        row: dict[str, object] = {"method": label}
        if codecs:
            row["codec"] = codecs.get(label, MISSING)
        if local_work:
            row["local_work"] = local_work.get(label, MISSING)
        row["samples_total"] = last_measured(history, "samples_total")
        if metric:
            for name in (metric.average, metric.clients("mean")):
                row[f"{name}_last"] = last_measured(history, name)
                row[f"{name}_best"], _ = best_measured(history, name, metric)
            row[f"{metric.worst}_last"] = last_measured(history, metric.worst)
        for name in answers:
            row[f"{name}_last"] = last_measured(history, name)
        row |= {name: last_measured(history, name) for name in ("consensus_distance", "product_distance")}
        if norms:
            norm = norms.get(label, math.nan)
            row["consensus_share"] = last_measured(history, "consensus_distance") / norm if norm > 0 else math.nan
        row["bytes_total"] = total_bytes(history)
        count = clients.get(label) if isinstance(clients, Mapping) else clients
        if clients is not None:
            sends = len(history) * (count or 0)
            row["bytes_per_client_round"] = total_bytes(history) / sends if sends else math.nan
        if private:
            row["epsilon"] = last_measured(history, "epsilon")
        row["seconds"] = sum(phase_seconds(history).values()) if phase_seconds(history) else math.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    reference = next((i for i, label in enumerate(histories) if codecs.get(label) == "none"), 0)
    total = table["bytes_total"].to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = total / total[reference]
    table["bytes_ratio"] = np.where(np.isfinite(ratio), ratio, np.nan)
    return table


def brief_table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns what of a `comparison_table` a terminal of 80 columns has room for: who, how good, how dear.

    Of the quality, what the averaged model and the clients' mean have after the last round; where privacy is spent, it
    is there, too.
    """
    kept = [name for name in table.columns if name.startswith("average_") and name.endswith("_last")][:1]
    kept += [name for name in table.columns if name.endswith("_mean_last")][:1]
    kept = ["method", *kept, *(["epsilon"] if "epsilon" in table else []), "bytes_total", "seconds"]
    return table[kept]


def best_rows(table: pd.DataFrame, metric: Metric | None) -> dict[str, list[int]]:
    """Returns the rows of a `comparison_table` that have the best quality, by column; none where all are equal."""
    found: dict[str, list[int]] = {}
    if metric is None:
        return found
    for name in table.columns:
        if not str(name).startswith((metric.average, f"clients_{metric.name}_")) or table[name].nunique() < 2:
            continue
        values = table[name].to_numpy(dtype=np.float64)
        best = np.nanmax(values) if metric.higher_is_better else np.nanmin(values)
        found[str(name)] = np.flatnonzero(values == best).tolist()
    return found


def _answers(histories: Iterable[pd.DataFrame], headline: Metric | None) -> tuple[str, ...]:
    """Returns the columns of exact match where a run generated answers and the headline is another metric."""
    exact = METRICS["exact_match"]
    asked = any(math.isfinite(last_measured(history, exact.average)) for history in histories)
    return (exact.average, exact.clients("mean")) if asked and headline != exact else ()
