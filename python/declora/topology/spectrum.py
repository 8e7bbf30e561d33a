"""Eigenvalues of mixing matrices: dense for few clients, sparse solvers beyond."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

__all__ = ["largest_eigenvalue", "second_modulus"]

_DENSE = 400
"""Up to so many clients the whole matrix goes to LAPACK."""
_ZERO = 1e-12
"""A modulus below this is rounding: the clients agree exactly."""
_SHIFT = 1e-6
"""Distance of the shift from the end of the spectrum, in shift-invert mode."""
_RESTARTS = 30
"""Restarts of the plain solver before shift-invert, which masters clustered eigenvalues but factorises."""

Vector = NDArray[np.float64]


def largest_eigenvalue(matrix: csr_array) -> float:
    """Returns the largest eigenvalue of a graph Laplacian `[n, n]`."""
    n = matrix.shape[0]
    if n <= _DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[-1])
    try:
        return float(eigsh(matrix, k=1, which="LA", v0=_start(n), ncv=40, maxiter=_RESTARTS)[0][0])
    except ArpackNoConvergence:
        # No eigenvalue of a Laplacian is above twice its largest diagonal entry.
        bound = 2.0 * float(matrix.diagonal().max())
        return _nearest(matrix, bound * (1.0 + _SHIFT), 1)[0]


def second_modulus(matrices: Sequence[csr_array], *, symmetric: bool) -> float:
    """Returns the second largest eigenvalue modulus of a doubly stochastic matrix (slem), 0 for one client.

    For several matrices (a schedule): ||W_last ... W_first - J||_2 to the power 1/period, J = averaging.
    """
    n = matrices[0].shape[0]
    if n == 1:
        return 0.0
    if len(matrices) > 1:
        norm = _dense_norm(matrices) if n <= _DENSE else _sparse_norm(matrices)
        return 0.0 if norm < _ZERO else float(norm ** (1 / len(matrices)))
    matrix = matrices[0]
    if n <= _DENSE:
        modulus = _dense_modulus(matrix, symmetric)
    elif symmetric:
        modulus = _symmetric_modulus(matrix)
    elif abs(matrix @ matrix.T - matrix.T @ matrix).max() < _ZERO:
        # A normal matrix (every circulant is one): its moduli are the singular values.
        modulus = float(np.sqrt(_symmetric_modulus(csr_array(matrix.T @ matrix))))
    else:
        modulus = _directed_modulus(matrix)
    return 0.0 if modulus < _ZERO else min(modulus, 1.0)


def _dense_modulus(matrix: csr_array, symmetric: bool) -> float:
    dense = matrix.toarray()
    values = np.linalg.eigvalsh(dense) if symmetric else np.linalg.eigvals(dense)
    return float(np.sort(np.abs(values))[-2])


def _symmetric_modulus(matrix: csr_array) -> float:
    n = matrix.shape[0]
    deflated = _deflated(lambda x: matrix @ x, n)
    if _vanishes(deflated, n):
        return 0.0
    try:
        return abs(float(eigsh(deflated, k=1, which="LM", v0=_start(n), ncv=40, maxiter=_RESTARTS)[0][0]))
    except ArpackNoConvergence:
        second = sorted(_nearest(matrix, 1.0 + _SHIFT, 2))[0]
        # Gershgorin: no eigenvalue is below twice the least self weight minus 1.
        if 1.0 - 2.0 * float(matrix.diagonal().min()) <= second:
            return second
        return max(second, abs(_nearest(matrix, -1.0 - _SHIFT, 1)[0]))


def _directed_modulus(matrix: csr_array) -> float:
    n = matrix.shape[0]
    deflated = _deflated(lambda x: matrix @ x, n)
    return float(np.abs(eigs(deflated, k=2, which="LM", v0=_start(n), ncv=60, return_eigenvectors=False)).max())


def _dense_norm(matrices: Sequence[csr_array]) -> float:
    n = matrices[0].shape[0]
    product = np.eye(n)
    for matrix in matrices:
        product = np.asarray(matrix @ product)
    return float(np.linalg.norm(product - 1.0 / n, 2))


def _sparse_norm(matrices: Sequence[csr_array]) -> float:
    n = matrices[0].shape[0]
    transposed = [csr_array(matrix.T) for matrix in reversed(matrices)]

    def gram(x: Vector) -> Vector:
        for matrix in (*matrices, *transposed):
            x = np.asarray(matrix @ x)
        return x

    deflated = _deflated(gram, n)
    if _vanishes(deflated, n):
        return 0.0
    return float(np.sqrt(abs(eigsh(deflated, k=1, which="LM", v0=_start(n), ncv=40)[0][0])))


def _deflated(apply: Callable[[Vector], Vector], n: int) -> Any:
    """The operator without its eigenvector of equal entries, whose eigenvalue is 1."""

    def matvec(x: Vector) -> Vector:
        applied = apply(np.ravel(x) - np.mean(x))
        return np.asarray(applied - applied.mean())

    return LinearOperator((n, n), matvec=matvec, dtype=np.float64)


def _vanishes(operator: Any, n: int) -> bool:
    # ARPACK fails on the zero operator; a random vector tells it with certainty.
    start = _start(n)
    return bool(np.linalg.norm(operator @ start) <= _ZERO * np.linalg.norm(start))


def _start(n: int) -> Vector:
    return np.random.Generator(np.random.Philox(0)).standard_normal(n)


def _nearest(matrix: csr_array, shift: float, count: int) -> list[float]:
    """Eigenvalues of a symmetric matrix nearest to `shift`, which is not one of them."""
    found = eigsh(csc_array(matrix), k=count, sigma=shift, v0=_start(matrix.shape[0]), return_eigenvectors=False)
    return [float(value) for value in found]
