"""Shows the numbers of an experiment as tables to read: what the rows scored, and what they took."""

import math

import numpy as np
import pandas as pd

from declora.metrics import METRICS, Metric
from declora.report import format_bytes, format_seconds
from declora.report.tables import MISSING

__all__ = ["best_rows", "cost_table", "quality_table"]


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
    columns = {
        "row": table["row"].tolist(),
        "training samples": [f"{value:,.0f}" for value in table["samples"]],
        "consensus distance of factors, last": _three_digits(table["consensus_distance"]),
        "of products, last": _three_digits(table["product_distance"]),
        "bytes of a client and round": [format_bytes(value) for value in table["bytes_per_client_round"]],
        "bytes in all": [format_bytes(value) for value in table["bytes_total"]],
        "time": [format_seconds(value) for value in table["seconds"]],
    }
    if (simulated := table["simulated_seconds"]).notna().any():
        columns["simulated time"] = [MISSING if math.isnan(value) else format_seconds(value) for value in simulated]
    if table["epsilon"].notna().any():
        columns["epsilon spent, most"] = _three_digits(table["epsilon"])
    return pd.DataFrame(columns)


def best_rows(table: pd.DataFrame) -> dict[str, list[int]]:
    """Returns the rows of one task with the best scores, by the headings of `quality_table`."""
    metric = METRICS[table["metric"].iloc[0]]
    names = {
        f"{metric.label} of averaged model, last": "average_last",
        "averaged, best": "average_best",
        "clients' mean, last": "clients_last",
        "clients' mean, best": "clients_best",
    }
    found = {}
    for heading, name in names.items():
        values = table[name].to_numpy(dtype=np.float64)
        if len(np.unique(values[np.isfinite(values)])) > 1:
            best = np.nanmax(values) if metric.higher_is_better else np.nanmin(values)
            found[heading] = np.flatnonzero(values == best).tolist()
    return found


def _three_digits(values: "pd.Series[float]") -> list[str]:
    return [MISSING if math.isnan(value) else f"{value:#.3g}" for value in values]


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
    """Shows two digits of what is in percent, three of the rest."""
    return MISSING if math.isnan(value) else f"{value:.2f}" if metric.percent else f"{value:.3f}"
