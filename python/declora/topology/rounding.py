"""Mends matrices whose numbers are coarser than float64: sums that are 1 but for their rounding are made 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_array, csr_array, diags_array

__all__ = ["is_coarse", "unrounded"]

_UNITS = 16
"""Units in the last place by which a sum of numbers of that type may be off."""
_STEPS = 5
"""Steps of Newton's method, each of which squares the error."""
_ENOUGH = 1e-12


def is_coarse(given: np.dtype[Any]) -> bool:
    """Returns whether numbers of this type are rounded more than float64; whole numbers are what they are."""
    return given.kind == "f" and np.finfo(given).eps > np.finfo(np.float64).eps


def unrounded(
    matrix: csr_array, given: np.dtype[Any], *, directed: bool, column_stochastic: bool
) -> tuple[csr_array, float]:
    """Returns a matrix with sums of 1 where those of `matrix` are 1 within the rounding of the type it was given in.

    Entry (i, j) is multiplied with 1 + a_i + b_j, where a and b solve for the sums: a step of Newton's method for the
    scaling of a matrix to a doubly stochastic one (Sinkhorn), which changes no weight by more than its rounding and
    makes none out of nothing.

    Args:
        matrix: float64 `[n, n]`.
        given: The type its numbers had.
        directed: Whether w_ij may differ from w_ji by more than rounding.
        column_stochastic: Whether only columns must sum to 1.

    Returns:
        The matrix, and how far its sums, or w_ij and w_ji, were off: 0 where it is as it was, which is also where they
        are off by more than that rounding.
    """
    rounding = _UNITS * float(np.finfo(given).eps)
    asymmetry = float(abs(matrix - matrix.T).max())
    symmetric = not directed and asymmetry <= rounding
    off = max(_worst(matrix, column_stochastic), asymmetry if symmetric else 0.0)
    if not _ENOUGH < off <= rounding:
        return matrix, 0.0
    for _ in range(_STEPS):
        if symmetric:
            matrix = csr_array((matrix + matrix.T) / 2)
        if _worst(matrix, column_stochastic) <= _ENOUGH:
            break
        matrix = _scaled(matrix, column_stochastic)
    return matrix, off


def _worst(matrix: csr_array, column_stochastic: bool) -> float:
    axes = (0,) if column_stochastic else (0, 1)
    return max(float(np.abs(np.asarray(matrix.sum(axis=axis)) - 1.0).max()) for axis in axes)


def _scaled(matrix: csr_array, column_stochastic: bool) -> csr_array:
    from scipy.sparse.linalg import minres

    n = matrix.shape[0]
    rows, columns = matrix.tocoo().coords
    sums: list[NDArray[np.float64]] = [np.asarray(matrix.sum(axis=axis), dtype=np.float64) for axis in (1, 0)]
    by_row, by_column = np.zeros(n), 1.0 / sums[1] - 1.0
    if not column_stochastic:
        # Singular, since a + c and b - c do the same, but with a solution: both sides of it have the same total.
        system: Any = block_array([[diags_array(sums[0]), matrix], [matrix.T, diags_array(sums[1])]], format="csr")
        by_row, by_column = np.split(minres(system, 1.0 - np.concatenate(sums), rtol=1e-6)[0], 2)
    return csr_array((matrix.data * (1.0 + by_row[rows] + by_column[columns]), (rows, columns)), shape=matrix.shape)
