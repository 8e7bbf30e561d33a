"""Reads graphs and mixing matrices from files, with the names that their nodes have there."""

import csv
import re
import zipfile
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np
from scipy.sparse import csr_array, load_npz

from declora.errors import TopologyError, cut
from declora.topology.labels import ordered_nodes

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["load_matrix", "read_file"]

_FIX = "Give a .csv, .graphml, .npy or .npz file"


def read_file(path: str) -> "tuple[nx.Graph[Any], None] | tuple[csr_array, tuple[Hashable, ...] | None]":
    """Returns the graph in a file; or its mixing matrix, with the names of the clients where it has some.

    - `.csv` whose first line names the columns `source` and `target` (and perhaps `weight`): an edge a line.
    - Other `.csv`: a mixing matrix, bare numbers, or with the clients' names in the first line and the first column.
    - `.graphml`: a graph; nodes that all have a `label` or `name` of their own are called so.
    - `.npy`, `.npz` (as `scipy.sparse.save_npz` writes it): a mixing matrix.

    Raises:
        TopologyError: It cannot be read as that; the message names the line.
    """
    if path.lower().endswith(".graphml"):
        return _graphml(path), None
    if not path.lower().endswith(".csv"):
        return load_matrix(path), None
    rows = _rows(path)
    first = [cell.lower() for cell in rows[0][1]]
    if {"source", "target"} <= set(first):
        return _edges(path, first, rows[1:]), None
    if all(_is_number(cell) for cell in first):
        return load_matrix(path), None
    return _named_matrix(path, rows)


def load_matrix(path: str | Path, *, field: str = "topology") -> csr_array:
    """Returns the matrix in a file: `.npy`, `.npz` (as `scipy.sparse.save_npz` writes it), or else text.

    Numbers in text have commas, semicolons or tabs between them.

    Args:
        path: Of the file.
        field: How errors call it.

    Raises:
        TopologyError: The file cannot be read as that.
    """
    with _reading(path, field):
        if str(path).endswith(".npz"):
            return csr_array(load_npz(path))
        if str(path).endswith(".npy"):
            return csr_array(np.load(path, allow_pickle=False))
        with open(path, encoding="utf-8-sig") as file:
            separator = _separator(file)
        return csr_array(np.loadtxt(path, delimiter=separator, ndmin=2, encoding="utf-8-sig"))


@contextmanager
def _reading(path: str | Path, field: str = "topology") -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, csv.Error, ParseError) as error:
        raise TopologyError(f"{field}={str(path)!r} cannot be read: {cut(error)}. {_FIX}.") from error


def _graphml(path: str) -> "nx.Graph[Any]":
    import networkx as nx

    with _reading(path):
        try:
            graph: nx.Graph[Any] = nx.read_graphml(path)
        except nx.NetworkXError as error:
            raise ValueError(str(error)) from error
    for attribute in ("label", "name"):
        names = dict(graph.nodes(data=attribute))
        texts = {str(name).strip() for name in names.values() if name is not None}
        if "" not in texts and len(texts) == len(names):
            return nx.relabel_nodes(graph, names)
    return graph


def _rows(path: str) -> list[tuple[int, list[str]]]:
    """Returns the lines of a csv file that are not empty, by their numbers; fields without white space around them."""
    with _reading(path), open(path, encoding="utf-8-sig", newline="") as file:
        separator = _separator(file)
        file.seek(0)
        reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    if not rows:
        raise TopologyError(f"topology={path!r} is empty. {_FIX}.")
    return rows


def _separator(lines: Iterable[str]) -> str:
    """Returns what divides fields: the first of comma, semicolon and tab that is outside quotes in the first line.

    Neither an empty line nor a comment, which NumPy allows, is that.
    """
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    bare = re.sub(r'"[^"]*"', "", first)
    return next((mark for mark in ",;\t" if mark in bare), ",")


def _edges(path: str, columns: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> "nx.Graph[Any]":
    """Returns the graph whose edges are rows; who is named first is the first client, where names are no numbers."""
    import networkx as nx

    graph: nx.Graph[Any] = nx.Graph()
    source, target = columns.index("source"), columns.index("target")
    for line, row in rows:
        if len(row) != len(columns) or not row[source] or not row[target]:
            raise TopologyError(
                f"topology={path!r}, line {line}: {cut(','.join(row), 80)!r} is no edge. Give each line a source and a "
                f"target, {len(columns)} fields in all."
            )
        if "type" in columns and row[columns.index("type")].lower() == "directed":
            raise TopologyError(
                f"topology={path!r}, line {line} is a directed edge, and edges of a .csv file go both ways. Give a "
                ".graphml file, or leave the column out."
            )
        own = {name: row[at] for at, name in enumerate(columns) if name == "weight"}
        graph.add_edge(row[source], row[target], **own)
    if not graph:
        raise TopologyError(f"topology={path!r} has no edges. Give one a line: source,target.")
    return graph


def _named_matrix(path: str, rows: Sequence[tuple[int, list[str]]]) -> tuple[csr_array, tuple[Hashable, ...]]:
    """Returns the matrix whose rows and columns are named, and the names; those that are numbers in rising order."""
    names = rows[0][1][1:]
    if not names:
        raise TopologyError(
            f"topology={path!r} names no clients in line 1. Begin the file with source,target for edges, or name rows "
            "and columns of a matrix alike."
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise TopologyError(f"topology={path!r}, line 1 has {twice[0]!r} twice. Give each client a name of its own.")
    if "" in names:
        raise TopologyError(f"topology={path!r}, line 1 has an empty name. Give each client a name of its own.")
    values = np.empty((len(rows) - 1, len(names)))
    for i, (line, row) in enumerate(rows[1:]):
        if i >= len(names) or row[0] != names[i] or len(row) != 1 + len(names) or not all(map(_is_number, row[1:])):
            wanted = f"{names[i]!r} and {len(names)} numbers" if i < len(names) else "no more lines"
            raise TopologyError(
                f"topology={path!r}, line {line}: {cut(','.join(row), 80)!r} is not what line 1 asks for, {wanted}. "
                "Begin the file with source,target for edges, or name rows and columns of a matrix alike."
            )
        values[i] = [float(cell) for cell in row[1:]]
    if len(values) < len(names):
        raise TopologyError(
            f"topology={path!r} names {len(names)} clients in line 1, but has lines for {len(values)}. Add that of "
            f"{names[len(values)]!r}."
        )
    nodes = ordered_nodes(names)
    order = [names.index(str(node)) for node in nodes]
    return csr_array(values[np.ix_(order, order)]), tuple(nodes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
