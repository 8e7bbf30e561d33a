"""Writes numbers for people: text and Markdown tables, headings, percent, bytes and seconds."""

import math
import re
import textwrap
from collections.abc import Callable

import numpy as np
import pandas as pd

from declora.metrics import METRICS

__all__ = [
    "MISSING",
    "cut",
    "format_bytes",
    "format_seconds",
    "format_table",
    "format_value",
    "heading",
    "markdown_cell",
    "to_markdown",
    "to_text",
]

MISSING = "–"
_HEADING = 14
"""Characters of a heading's line where the values are narrower."""
_LONGEST = 2000
"""Longer cells are cut."""
_MARKED = re.compile(r"[\\`*|<]|(?<!\w)_|_(?!\w)|\[(?=[^]]*\]\()")
"""What Markdown would not show as it is."""
_STATISTICS = {"min": "lowest", "max": "highest"}


def to_markdown(table: pd.DataFrame) -> str:
    """Returns a GitHub table with formatted values, numbers to the right; its columns line up as text too."""
    shown, right = format_table(table), _is_right(table)
    cells = [[markdown_cell(name) for name in shown.columns]]
    cells += [[markdown_cell(value) for value in row] for row in shown.itertuples(index=False)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(right))]
    lines = [_align(row, widths, right) for row in cells]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]]) + "\n"


def to_text(table: pd.DataFrame) -> str:
    """Returns an aligned plain text table with formatted values, numbers to the right."""
    shown, right = format_table(table), _is_right(table)
    cells = [[" ".join(cell.split()) for cell in row] for row in shown.itertuples(index=False)]
    head = []
    for i, name in enumerate(shown.columns):  # in lines no wider than need be, as a heading is longer than its values
        widest = max((len(row[i]) for row in cells), default=0)
        head.append(textwrap.wrap(" ".join(name.split()), max(widest, _HEADING), break_long_words=False) or [""])
    height = max(map(len, head))
    rows = [[([""] * (height - len(lines)) + lines)[line] for lines in head] for line in range(height)] + cells
    widths = [max(len(row[i]) for row in rows) for i in range(len(right))]
    lines = [_align(row, widths, right) for row in rows]
    lines.insert(height, ["─" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in lines) + "\n"


def format_table(table: pd.DataFrame, *, literal: bool = False) -> pd.DataFrame:
    """Returns the table as text for reading: headings for column names, values by `format_value`.

    Args:
        table: any table; two of its columns may have one name.
        literal: whether its columns are named by a user (classes, runs): such names are shown as they are, cut if they
            are long, and say nothing of the values.
    """
    names = ["" if literal else str(name) for name in table.columns]
    cells = [[format_value(name, value) for value in table.iloc[:, i]] for i, name in enumerate(names)]
    columns = [cut(str(name)) if literal else heading(str(name)) for name in table.columns]
    frame = pd.DataFrame(dict(enumerate(cells)), index=range(len(table)), dtype=object)
    return frame.set_axis(columns, axis=1)


def cut(text: str, length: int = 60) -> str:
    """Returns a text of at most `length` characters; of a longer one, its beginning and how long it is."""
    return text if len(text) <= length else f"{text[: length - 20]}… ({len(text):,} characters)"


def heading(name: str) -> str:
    """Returns the heading of a column: words, without what the value says itself."""
    special = {
        "local_work": "local work a round (K)",
        "samples_seen": "samples seen",
        "samples_total": "samples seen, total",
        "bytes_total": "bytes sent, total",
        "bytes_sent": "bytes sent",
        "bytes_per_client_round": "bytes by client and round",
        "bytes_ratio": "bytes, relative",
        "consensus_share": "consensus distance over norm",
        "seconds": "time",
    }
    if name in special:
        return special[name]
    start, _, when = name.rpartition("_")
    if when in ("last", "best"):
        return f"{heading(start)}, {when}"
    who, _, measure = name.partition("_")
    if who == "average" and measure:
        return f"{_label(measure)} of averaged model"
    if who == "clients" and measure:
        quality, _, statistic = measure.rpartition("_")
        return f"{_STATISTICS.get(statistic, statistic)} {_label(quality)} of clients"
    if name in METRICS:
        return _label(name)
    return name.removeprefix("seconds_").replace("_", " ")


def format_value(name: str, value: object) -> str:
    """Returns a value as its column's kind is read: percent, bytes, seconds, or a number with few digits."""
    if value is None or value is pd.NA:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, int | float | np.number):
        return cut(str(value), _LONGEST)
    number = float(value)
    if math.isnan(number):
        return MISSING
    for part, show in _FORMATS:
        if part in name:
            return show(number)
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"


def format_bytes(count: float) -> str:
    """Returns bytes with three digits and a decimal unit, `1.23 MB`; NaN gives a dash."""
    if not math.isfinite(count):
        return MISSING if math.isnan(count) else str(count)
    for unit, scale in (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)):
        # 999.6 kB would round to "1000 kB": it belongs to the next unit.
        if abs(count) / scale < (999.5 if unit != "PB" else math.inf):
            break
    if unit == "B":
        return f"{count:.0f} B"
    return f"{_three_digits(count / scale)} {unit}"


def format_seconds(seconds: float) -> str:
    """Returns a duration: `12.3 ms`, `4.21 s`, `3 min 05 s`, `2 h 03 min`; NaN as a dash."""
    if not math.isfinite(seconds):
        return MISSING if math.isnan(seconds) else str(seconds)
    if seconds == 0:
        return "0 s"
    for unit, scale in (("µs", 1e-6), ("ms", 1e-3)):
        if abs(seconds) / scale < 999.5:
            return f"{_three_digits(seconds / scale)} {unit}"
    if seconds < 99.95:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _label(measure: str) -> str:
    return METRICS[measure].label if measure in METRICS else measure.replace("_", " ")


def _three_digits(value: float) -> str:
    size = abs(value)
    return f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.0f}"


def _format_ratio(ratio: float) -> str:
    if abs(ratio - 1) < 5e-3 or ratio <= 0:
        return f"{ratio:.0f}×"
    return f"{1 / ratio:.1f}× fewer" if ratio < 1 else f"{ratio:.1f}× more"


_FORMATS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("ratio", _format_ratio),
    ("share", lambda value: f"{100 * value:.1f} %"),
    ("bytes", format_bytes),
    ("seconds", format_seconds),
    *((metric.name, lambda value: f"{100 * value:.1f} %") for metric in METRICS.values() if metric.percent),
    ("matthews", lambda value: f"{value:.3f}"),
    ("perplexity", lambda value: f"{value:.2f}" if value < 1e4 else f"{value:.3g}"),
    ("loss", lambda value: f"{value:.4f}"),
    ("distance", lambda value: f"{value:#.3g}"),
    ("learning_rate", lambda value: f"{value:.3g}"),
)


def _is_right(table: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(table.dtypes.iloc[i]) for i in range(table.shape[1])]


def _align(row: list[str], widths: list[int], right: list[bool]) -> list[str]:
    return [
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(row, widths, right, strict=True)
    ]


def markdown_cell(text: str) -> str:
    """Returns a text that Markdown shows as it is."""
    return " ".join(_MARKED.sub(r"\\\g<0>", text).split())
