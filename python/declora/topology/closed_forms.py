"""Computes eigenvalues of matrices whose structure gives them away: no iteration, at any number of clients."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_array

from declora.topology.graphs import torus_shape

__all__ = ["group_eigenvalues", "tridiagonal_eigenvalues"]

_EQUAL = 1e-12
"""Weights this near are the same one, computed in another order."""


def group_eigenvalues(matrix: csr_array) -> Iterator[tuple[tuple[int, ...], NDArray[np.complex128]]]:
    """Finds the cyclic groups under which a matrix `[n, n]` is the same from every client.

    The entries w_ij of such a matrix depend on j - i only, taken in the group: in Z_n for a ring, a complete or an
    exponential graph, in Z_rows x Z_columns for a torus, in Z_2 x ... x Z_2 for a hypercube. Its eigenvectors are the
    group's characters, whatever the weights, so its eigenvalues are the discrete Fourier transform of one row.

    Yields:
        The shape of a group, and the n eigenvalues by character; the first one's is that of equal entries.
    """
    n = matrix.shape[0]
    receivers, senders = matrix.tocoo().coords
    for shape in _groups(n):
        ends = (np.unravel_index(index, shape) for index in (senders, receivers))
        steps = [(sender - receiver) % size for sender, receiver, size in zip(*ends, shape, strict=True)]
        step = np.ravel_multi_index(steps, shape)
        counts = np.bincount(step, minlength=n)
        row = np.zeros(n)
        row[step] = matrix.data  # any of the n that are equal, not their mean, which would round n times
        if np.all((counts == 0) | (counts == n)) and np.abs(matrix.data - row[step]).max(initial=0.0) <= _EQUAL:
            yield shape, np.fft.fftn(row.reshape(shape)).ravel()


def tridiagonal_eigenvalues(matrix: csr_array) -> NDArray[np.float64] | None:
    """Returns the least, second largest and largest eigenvalue of a symmetric matrix, if it is tridiagonal (a path)."""
    n = matrix.shape[0]
    rows, columns = matrix.tocoo().coords
    if n < 3 or np.abs(rows - columns).max(initial=0) > 1:
        return None
    ends = ((0, 0), (n - 2, n - 1))
    found = [
        eigh_tridiagonal(matrix.diagonal(), matrix.diagonal(1), eigvals_only=True, select="i", select_range=part)
        for part in ends
    ]
    return np.concatenate(found)


def _groups(n: int) -> Iterator[tuple[int, ...]]:
    yield (n,)
    if torus_shape(n)[0] > 1:
        yield torus_shape(n)
    if n & (n - 1) == 0:
        yield (2,) * (n.bit_length() - 1)
