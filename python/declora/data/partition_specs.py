"""What a partition specification may say, and the checks before it is done."""

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from declora.data import schemes
from declora.data.text_data import TextData
from declora.errors import ConfigError, DataError, unknown_name
from declora.seeds import generator

__all__ = ["divide"]

_TOLERANCE = 1e-6  # of the sum of a row of label proportions, so that thirds may be written with six digits


def divide(spec: Any, data: TextData, clients: int, seed: int) -> tuple[str, schemes.Shards]:
    """Returns the name and the shards, not sorted, of a checked number of clients; see `partition`."""
    if not isinstance(spec, str):
        request = _Request("labels", "an array", data, clients, seed)
        return "labels", _from_array(request, spec)
    kind, _, argument = spec.partition(":")
    if kind not in _KINDS:
        forms = [f"{known}:{form}" if form else known for known, (form, _) in _KINDS.items()]
        raise unknown_name("partition", spec, forms)
    form, method = _KINDS[kind]
    if bool(argument) != bool(form):
        fix = f"Write {kind}:{form}." if form else f"Write just {kind!r}."
        raise ConfigError(f"partition={spec!r}: {kind} takes {form or 'no argument'}. {fix}")
    return spec, method(_Request(kind, repr(spec), data, clients, seed), argument)


@dataclass(frozen=True)
class _Request:
    kind: str
    shown: str
    data: TextData
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

    def alpha(self, argument: str) -> float:
        try:
            alpha = float(argument)
        except ValueError:
            alpha = math.nan
        if not (alpha > 0 and math.isfinite(alpha)):
            self.fail(f"ALPHA={argument} must be a finite number above 0, e.g. 0.5 (for equal shares use iid).")
        return alpha


def _iid(request: _Request, _: str) -> schemes.Shards:
    return schemes.iid(request.rows, request.clients, request.rng())


def _dirichlet(request: _Request, argument: str) -> schemes.Shards:
    return schemes.dirichlet(request.labels(), request.clients, request.alpha(argument), request.rng())


def _quantity(request: _Request, argument: str) -> schemes.Shards:
    return schemes.quantity(request.rows, request.clients, request.alpha(argument), request.rng())


def _shards(request: _Request, argument: str) -> schemes.Shards:
    if not argument.isdecimal() or int(argument) < 1:
        request.fail(f"S={argument} must be a whole number of at least 1, e.g. shards:2.")
    if request.clients * int(argument) > request.rows:
        raise DataError(
            f"partition={request.shown} cuts {request.clients} x {argument} shards out of {request.rows} "
            "training rows. Use fewer shards per client, fewer clients or more data."
        )
    return schemes.label_shards(request.labels(), request.clients, int(argument), request.rng())


def _labels(request: _Request, argument: str) -> schemes.Shards:
    try:
        given = ast.literal_eval(argument.strip())
    except (SyntaxError, ValueError):
        request.fail("the proportions are no list of lists of numbers. Write e.g. labels:[[.15,.85],[.85,.15]].")
    return _from_array(request, given)


def _from_array(request: _Request, given: Any) -> schemes.Shards:
    labels, names = request.labels(), request.data.label_names
    shape = (request.clients, len(names))
    try:
        proportions = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        request.fail("neither a known name nor label proportions. Give a name or a clients x classes array of numbers.")
    if proportions.shape != shape:
        request.fail(
            f"label proportions of shape {proportions.shape} do not fit {shape[0]} clients x {shape[1]} "
            f"classes {list(names)}. Give one row per client."
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


def _natural(request: _Request, _: str) -> schemes.Shards:
    shards = request.data.shards
    if shards is None:
        request.fail("the data is not one data set per client. Give data as a list, or use iid, dirichlet:ALPHA, ...")
    if len(shards) != request.clients:
        request.fail(f"the data has {len(shards)} data sets for clients={request.clients}. Set clients={len(shards)}.")
    return list(shards)


_KINDS: dict[str, tuple[str, Callable[[_Request, str], schemes.Shards]]] = {
    "column": ("NAME", _column),
    "dirichlet": ("ALPHA", _dirichlet),
    "given": ("", _natural),
    "iid": ("", _iid),
    "labels": ("[[...],...]", _labels),
    "natural": ("", _natural),
    "quantity": ("ALPHA", _quantity),
    "shards": ("S", _shards),
}
"""By name: what its argument is, and how to divide."""
