"""Reads partition specifications, and checks them before they are done."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from declora.data import schemes
from declora.data.partitioner import are_rows, check_rows, divide_by
from declora.errors import ConfigError, DataError, shown
from declora.seeds import generator
from declora.spec import Literal, Option, parse_spec, spelled

if TYPE_CHECKING:
    from declora.data.text_data import TextData

__all__ = ["divide", "parse_partition"]

_WANTED = "Give a clients x classes array of numbers, or each client's rows as a list of whole numbers."
_TOLERANCE = 1e-6  # of the sum of a row of label proportions, so that thirds may be written with six digits


def parse_partition(spec: str) -> tuple[str, Any]:
    """Returns the name in `spec` and its argument: a number, rows of numbers, the name of a column, or None.

    Raises:
        ConfigError: Unknown name (the nearest one is shown), or an argument that is not what the name takes.
    """
    kind, options = parse_spec("partition", spec, {name: options for name, (options, _) in _KINDS.items()})
    return kind, next(iter(options.values()), None)


def divide(spec: Any, data: "TextData", clients: int, seed: int) -> tuple[str, schemes.Shards]:
    """Returns the name and the shards, not sorted, of a checked number of clients; see `partition`."""
    if callable(spec):
        return spelled(spec), divide_by(spec, data, clients, generator(seed, "partition", "own"))
    if are_rows(spec, (clients, len(data.label_names))):
        return "rows", check_rows("partition=[...]", spec, clients, data.train.num_rows)
    if not isinstance(spec, str):
        return "labels", _from_array(_Request("labels", "an array", data, clients, seed), spec)
    kind, argument = parse_partition(spec)
    method = _KINDS[kind][1]
    return spec, method(_Request(kind, shown(spec), data, clients, seed), argument)


@dataclass(frozen=True)
class _Request:
    kind: str
    shown: str
    data: "TextData"
    clients: int
    seed: int

    @property
    def rows(self) -> int:
        return int(self.data.train.num_rows)

    def rng(self) -> np.random.Generator:
        return generator(self.seed, "partition", self.kind)

    def labels(self) -> NDArray[np.int64]:
        labels = self.data.labels()
        if labels is None:
            raise ConfigError(
                f"partition={self.shown} divides by label, but task={self.data.task!r} has none. Use iid, "
                "quantity:ALPHA, column:NAME or natural."
            )
        return labels

    def fail(self, problem: str) -> NoReturn:
        raise ConfigError(f"partition={self.shown}: {problem}")


def _proportions(text: str) -> Any:
    """Returns the Python literal that `text` is, None where it is none."""
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the latter two of very deep brackets
        return None


def _iid(request: _Request, _: None) -> schemes.Shards:
    return schemes.iid(request.rows, request.clients, request.rng())


def _dirichlet(request: _Request, alpha: float) -> schemes.Shards:
    return schemes.dirichlet(request.labels(), request.clients, alpha, request.rng())


def _quantity(request: _Request, alpha: float) -> schemes.Shards:
    return schemes.quantity(request.rows, request.clients, alpha, request.rng())


def _shards(request: _Request, count: int) -> schemes.Shards:
    if request.clients * count > request.rows:
        raise DataError(
            f"partition={request.shown} cuts {request.clients} x {count} shards out of {request.rows} "
            "training rows. Use fewer shards per client, fewer clients or more data."
        )
    return schemes.label_shards(request.labels(), request.clients, count, request.rng())


def _from_array(request: _Request, given: Any) -> schemes.Shards:
    labels, names = request.labels(), request.data.label_names
    shape = (request.clients, len(names))
    try:
        proportions = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        request.fail(f"neither a known name nor label proportions nor rows. {_WANTED}")
    if proportions.shape != shape:
        request.fail(
            f"label proportions of shape {proportions.shape} do not fit {shape[0]} clients x {shape[1]} "
            f"classes {list(names)}. {_WANTED}"
        )
    for client, row in enumerate(proportions):
        if not np.all((row >= 0) & (row <= 1)) or abs(row.sum() - 1) > _TOLERANCE:
            request.fail(
                f"the proportions of client {client}, {row.tolist()}, must be in 0..1 and sum to 1, not {row.sum():g}."
            )
    absent = np.flatnonzero((proportions.sum(axis=0) > 0) & (np.bincount(labels, minlength=shape[1]) == 0))
    if absent.size:
        raise DataError(
            f"partition={request.shown}: no training row has class {names[absent[0]]!r}. Set its proportion to 0."
        )
    shards = schemes.by_proportions(labels, proportions / proportions.sum(axis=1, keepdims=True), request.rng())
    if shards is None:
        counts = dict(zip(names, np.bincount(labels, minlength=shape[1]).tolist(), strict=True))
        raise DataError(
            f"partition={request.shown}: the training rows ({counts}) do not give {shape[0]} clients one row "
            "each in these proportions. Use fewer clients or more data."
        )
    return shards


def _column(request: _Request, column: str) -> schemes.Shards:
    train = request.data.train
    if column not in train.column_names:
        raise DataError(
            f"partition={request.shown}: the data has no column {column!r}. Columns found: {train.column_names}."
        )
    values = train[column][:]
    if None in values:
        raise DataError(
            f"partition={request.shown}: row {values.index(None)} (the first is 0) is null. Fill it in or drop it."
        )
    try:
        distinct = len(set(values))
    except TypeError:
        request.fail(
            f"column {column!r} holds {type(values[0]).__name__} values, not names or numbers. Use another column."
        )
    if distinct < request.clients:
        raise DataError(
            f"partition={request.shown}: the column has {distinct} different values for "
            f"clients={request.clients}. Use at most {distinct} clients."
        )
    return schemes.by_value(values, request.clients)


def _natural(request: _Request, _: None) -> schemes.Shards:
    shards = request.data.shards
    if shards is None:
        request.fail("the data is not one data set per client. Give data as a list, or use iid, dirichlet:ALPHA, ...")
    if len(shards) != request.clients:
        request.fail(f"the data has {len(shards)} data sets for clients={request.clients}. Set clients={len(shards)}.")
    return list(shards)


_ALPHA = {"alpha": Option(whole=False, least=0, above=True, needed=True, hint="for equal shares use iid")}
_KINDS: dict[str, tuple[dict[str, Option | Literal], Callable[[_Request, Any], schemes.Shards]]] = {
    "column": ({"name": Literal("the name of a column", "author")}, _column),
    "dirichlet": ({**_ALPHA}, _dirichlet),
    "given": ({}, _natural),
    "iid": ({}, _iid),
    "labels": (
        {"proportions": Literal("a list of lists of numbers", "[[.15,.85],[.85,.15]]", _proportions)},
        _from_array,
    ),
    "natural": ({}, _natural),
    "quantity": ({**_ALPHA}, _quantity),
    "shards": ({"s": Option(whole=True, least=1, most=10**9 - 1, needed=True)}, _shards),
}
"""By name: its option, and how to divide."""
