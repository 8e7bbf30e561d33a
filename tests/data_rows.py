"""Small data for the tests of the data room."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets

from declora.data import TextData

ROWS = [("good", 1), ("bad", 0), ("fine", 1), ("awful", 0), ("nice", 1), ("poor", 0), ("great", 1), ("weak", 0)]


def rows_to(path: Path, rows: list[tuple[object, ...]], columns: tuple[str, ...] = ("text", "label")) -> Path:
    """Writes rows as the file name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        data(rows, columns).to_parquet(path)
        return path
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    elif name.endswith(".json"):
        text = json.dumps([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        separator = "\t" if name.endswith(".tsv") else ","
        text = "".join(separator.join(map(str, row)) + "\n" for row in [columns, *rows])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def data(rows: list[tuple[object, ...]], columns: tuple[str, ...] = ("text", "label")) -> datasets.Dataset:
    return datasets.Dataset.from_dict({name: [row[i] for row in rows] for i, name in enumerate(columns)})


def pairs(split: datasets.Dataset) -> list[tuple[str, int]]:
    return list(zip(split["text"][:], split["label"][:], strict=True))


def text_data(labels: Any, **columns: list[Any]) -> TextData:
    """Returns data with the given labels, one short text each."""
    rows = {"text": [f"t{i}" for i in range(len(labels))], "label": list(labels), **columns}
    train = datasets.Dataset.from_dict(rows)
    names = tuple(f"class {c}" for c in range(max(labels) + 1))
    return TextData("test", train, train, "classification", ("text",), "label", names, None)


def unlabelled(rows: int) -> TextData:
    train = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(rows)], "site": [i % 4 for i in range(rows)]})
    return TextData("test", train, train, "causal-lm", ("text",), None, (), None)
