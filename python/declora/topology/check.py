"""Checks that gossip can run on a mixing matrix; the errors say where one falls short."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, issparse

from declora.errors import TopologyError, shown

__all__ = ["TOLERANCE", "as_matrix", "check_clients", "check_connected", "check_mixes", "check_weights", "settled"]

TOLERANCE = 1e-9
"""Largest distance of a row or column sum from 1, and of w_ij from w_ji."""
_MOST = 2**31 - 1
"""Clients are numbered in int32."""
_ROWS = 256
"""Rows of a full matrix that are compared with its columns at a time."""


def check_clients(clients: object) -> int:
    """Returns `clients` as an int; `TopologyError` where it is not an integer of at least 1."""
    if isinstance(clients, bool) or not isinstance(clients, (int, np.integer)):
        raise TopologyError(f"clients={shown(clients)} must be an integer, not {type(clients).__name__}.")
    if clients < 1:
        raise TopologyError(f"clients={shown(clients)} must be at least 1.")
    if clients > _MOST:
        raise TopologyError(f"clients={shown(clients)} must be at most {_MOST:,}.")
    return int(clients)


def as_matrix(values: object, *, name: str) -> csr_array:
    """Returns a float64 copy of an array or scipy sparse matrix: indices sorted, no duplicates, no zeros.

    Of a matrix that is all that, and that nobody can write, there is no copy: it is returned as it is.

    Raises:
        TopologyError: it is not a square matrix of real numbers.
    """
    try:
        given: Any = values if issparse(values) else np.asarray(values)
    except ValueError:
        raise TopologyError(f"topology={name!r}: the rows of the matrix differ in length; make it square.") from None
    shape = given.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        form = " x ".join(map(str, shape)) or "a single value"
        raise TopologyError(f"topology={name!r}: a mixing matrix is square, clients x clients; this one is {form}.")
    kind = given.dtype
    if kind.kind not in "fiub":
        raise TopologyError(f"topology={name!r}: weights are real numbers; this matrix has dtype {kind}; use float64.")
    if isinstance(given, csr_array) and _is_settled(given):
        return given
    matrix: csr_array = csr_array(given, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def settled(matrix: csr_array) -> csr_array:
    """Returns `matrix` after making its arrays read-only: whoever made it keeps nothing that could change it."""
    for array in _arrays(matrix):
        array.flags.writeable = False
    return matrix


def _arrays(matrix: csr_array) -> list[NDArray[Any]]:
    """Returns the arrays of a matrix, and those of which they are views, as scipy leaves them."""
    parts: list[Any] = [matrix.data, matrix.indices, matrix.indptr]
    return parts + [part.base for part in parts if isinstance(part.base, np.ndarray)]


def _is_settled(matrix: csr_array) -> bool:
    arrays = _arrays(matrix)
    fixed = not any(array.flags.writeable for array in arrays)
    owned = all(array.base is None or any(array.base is other for other in arrays) for array in arrays)
    return fixed and owned and matrix.dtype == np.float64 and matrix.has_canonical_format and bool(matrix.data.all())


def check_weights(
    matrix: csr_array,
    *,
    name: str,
    directed: bool = False,
    column_stochastic: bool = False,
    law: NDArray[np.float64] | None = None,
) -> None:
    """Raises `TopologyError` where `matrix` is not non-negative, finite, doubly stochastic and symmetric.

    Args:
        matrix: canonical `csr_array`, `[n, n]`.
        name: how errors name the topology.
        directed: whether w_ij may differ from w_ji.
        column_stochastic: whether only columns must sum to 1.
        law: pi `[n]`. Where there is one, what must be so of pi_i w_ij, as it is else of w_ij: column j sums to pi_j,
            and, unless `directed`, it is symmetric.
    """
    where = f"topology={name!r}"
    for bad, what, fix in (
        (~np.isfinite(matrix.data), "is not a finite number", "weights are between 0 and 1"),
        (matrix.data < 0, "is negative", "weights are between 0 and 1"),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            row = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
            entry = f"row {row}, column {matrix.indices[at]}"
            raise TopologyError(f"{where}: the weight at {entry} is {matrix.data[at]}, which {what}; {fix}.")
    share = np.ones(matrix.shape[0]) if law is None else _checked_law(law, matrix.shape[0], where) * matrix.shape[0]
    flow = matrix if law is None else csr_array(diags_array(share) @ matrix)
    sums = {"row": np.asarray(matrix.sum(axis=1)), "column": np.asarray(flow.sum(axis=0)) / share}
    for line in ("column",) if column_stochastic else ("row", "column"):
        wrong = np.flatnonzero(np.abs(sums[line] - 1.0) > TOLERANCE)
        if wrong.size:
            first = int(wrong[0])
            which = "every column of a column-stochastic" if column_stochastic else "every row and column of a mixing"
            which += "" if law is None else " (columns: weighted by the law)"
            raise TopologyError(
                f"{where}: {line} {first} sums to {sums[line][first]:.12g}, not 1; {which} matrix sums to 1 within "
                f"{TOLERANCE:g}. {_sum_hint(matrix, line, column_stochastic)}"
            )
    if directed or _is_symmetric(flow):
        return
    gaps = csr_array(abs(flow - flow.T))
    if gaps.nnz and gaps.max() > TOLERANCE:
        at = int(np.argmax(gaps.data))
        i = int(np.searchsorted(gaps.indptr, at, side="right")) - 1
        j = int(gaps.indices[at])
        raise TopologyError(
            f"{where}: not symmetric, the weight at row {i}, column {j} is {matrix[i, j]:.12g} but at row "
            f"{j}, column {i} it is {matrix[j, i]:.12g}; if links are meant to be one-way, say so with "
            "Topology.build(..., directed=True) or give a networkx.DiGraph."
        )


def _is_symmetric(matrix: csr_array) -> bool:
    """Whether a canonical matrix is its transpose within the tolerance, entry by entry; False may also mean unsure.

    A full one is compared as the square array that its entries are, without a second one.
    """
    n = matrix.shape[0]
    if matrix.nnz == n * n:
        square = matrix.data.reshape(n, n)
        blocks = ((square[at : at + _ROWS, at:], square[at:, at : at + _ROWS].T) for at in range(0, n, _ROWS))
        return all(float(np.abs(rows - columns).max()) <= TOLERANCE for rows, columns in blocks)
    turned = csr_array(matrix.T)
    alike = np.array_equal(matrix.indptr, turned.indptr) and np.array_equal(matrix.indices, turned.indices)
    return alike and float(np.abs(matrix.data - turned.data).max(initial=0.0)) <= TOLERANCE


def _has_hub(matrix: csr_array) -> bool:
    """Whether some client hears all others, and all others hear it: then each can reach each."""
    heard = np.diff(matrix.indptr)
    hub = int(np.argmax(heard))
    n, own = matrix.shape[0], bool(matrix.diagonal()[hub])
    return bool(heard[hub] == n - 1 + own and np.count_nonzero(matrix.indices == hub) == n - 1 + own)


def check_connected(matrices: Sequence[csr_array], *, name: str) -> None:
    """Raises `TopologyError` where some client cannot reach another over all rounds together."""
    if len(matrices) == 1 and _has_hub(matrices[0]):
        return
    from scipy.sparse.csgraph import connected_components

    clients = matrices[0].shape[0]
    union = matrices[0] if len(matrices) == 1 else csr_array(sum(matrices[1:], start=matrices[0]))
    count, label = connected_components(union, directed=True, connection="strong")
    if count == 1:
        return
    other = int(np.argmax(label != label[0]))
    sizes = sorted(np.bincount(label, minlength=count).tolist(), reverse=True)
    shown = ", ".join(map(str, sizes[:8])) + (", ..." if count > 8 else "")
    raise TopologyError(
        f"topology={name!r}: not connected, client 0 and client {other} cannot reach each other; the "
        f"{clients} clients fall into {count} components of {shown} clients. Add edges between the "
        "components."
    )


def check_mixes(matrix: csr_array, *, name: str) -> None:
    """Raises `TopologyError` where a connected static matrix only passes values around and never agrees.

    That is so when no client keeps a share of its own value and all cycles share a factor (two clients that
    swap).
    """
    if matrix.shape[0] == 1 or np.any(matrix.diagonal() > 0):
        return
    import networkx as nx

    if not nx.is_aperiodic(nx.from_scipy_sparse_array(matrix, create_using=nx.DiGraph)):
        raise TopologyError(
            f"topology={name!r}: every self weight is 0 and clients only swap values, so they never agree; "
            "give each client a weight of its own, for example (W + I) / 2."
        )


def _checked_law(law: NDArray[np.float64], clients: int, where: str) -> NDArray[np.float64]:
    if law.shape != (clients,) or not (np.isfinite(law) & (law > 0)).all() or abs(law.sum() - 1.0) > TOLERANCE:
        raise TopologyError(f"{where}: law must be {clients} numbers above 0 that sum to 1.")
    return law


def _sum_hint(matrix: csr_array, line: str, column_stochastic: bool) -> str:
    values: NDArray[np.float64] = matrix.data
    if np.all(values == 1.0):
        return "This looks like an adjacency matrix: pass networkx.from_numpy_array(matrix) to have weights set."
    if column_stochastic:
        return "Column j is how client j splits what it has: its own share is what the others leave of 1."
    if line == "column":
        return "A weight that one client gives must be taken from another: symmetric weights do that."
    return "The self weight of a row is what its other weights leave of 1."
