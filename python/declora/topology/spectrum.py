"""Computes eigenvalues of mixing matrices: dense for few clients; beyond, by closed forms or sparse solvers."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, diags_array
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs, eigsh

from declora.topology.closed_forms import group_eigenvalues, tridiagonal_eigenvalues

__all__ = ["largest_eigenvalue", "second_modulus"]

_DENSE = 400
"""Up to so many clients the whole matrix goes to LAPACK."""
_ZERO = 1e-12
"""A modulus below this is rounding: the clients agree exactly."""
_SHIFT = 1e-6
"""Distance of the shift from the end of the spectrum, in shift-invert mode."""
_RESTARTS = 30
"""Restarts of the plain solver before shift-invert, which masters clustered eigenvalues but factorises."""
_ROUNDS = 2000
"""Rounds that are tried out where no solver finds the modulus."""

Vector = NDArray[np.float64]


def largest_eigenvalue(matrix: csr_array) -> float:
    """Returns the largest eigenvalue of a graph Laplacian `[n, n]`."""
    n = matrix.shape[0]
    if n <= _DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[-1])
    for _, values in group_eigenvalues(matrix):
        return float(values.real.max())
    ends = tridiagonal_eigenvalues(matrix)
    if ends is not None:
        return float(ends[-1])
    try:
        return float(eigsh(matrix, k=1, which="LA", v0=_start(n), ncv=40, maxiter=_RESTARTS)[0][0])
    except ArpackError:
        # No eigenvalue of a Laplacian is above twice its largest diagonal entry.
        bound = 2.0 * float(matrix.diagonal().max())
        return _nearest(matrix, bound * (1.0 + _SHIFT), 1)[0]


def second_modulus(matrices: Sequence[csr_array], *, symmetric: bool, law: Vector | None = None) -> float:
    """Returns the second largest eigenvalue modulus of a mixing matrix (slem), 0 for one client.

    For several matrices (a schedule): ||W_last ... W_first - J||_2 to the power 1/period, J = averaging.

    Args:
        matrices: those of one period, `[n, n]` each.
        symmetric: whether w_ij = w_ji; with a stationary law, whether pi_i w_ij = pi_j w_ji.
        law: the stationary law pi `[n]` that the matrices keep, 1/n each where None. Distances are then weighted by pi.
    """
    n = matrices[0].shape[0]
    if n == 1:
        return 0.0
    kept = np.full(n, 1.0 / n) if law is None else law
    unit = np.sqrt(kept)
    if law is not None:
        # Similar matrices, with the same eigenvalues: symmetric where pi is in detailed balance.
        matrices = [csr_array(diags_array(unit) @ matrix @ diags_array(1.0 / unit)) for matrix in matrices]
    if len(matrices) > 1:
        norm = _dense_norm(matrices, unit) if n <= _DENSE else _sparse_norm(matrices, unit)
        return 0.0 if norm < _ZERO else float(norm ** (1 / len(matrices)))
    matrix = matrices[0]
    if matrix.nnz == n * n and np.ptp(matrix.data) == 0:
        return 0.0  # everybody has the same mean at once
    if n <= _DENSE:
        modulus = _dense_modulus(matrix, symmetric)
    elif symmetric:
        modulus = _symmetric_modulus(matrix, unit)
    else:
        modulus = _directed_modulus(matrix, unit)
    return 0.0 if modulus < _ZERO else min(modulus, 1.0)


def _dense_modulus(matrix: csr_array, symmetric: bool) -> float:
    dense = matrix.toarray()
    values = np.linalg.eigvalsh(dense) if symmetric else np.linalg.eigvals(dense)
    return float(np.sort(np.abs(values))[-2])


def _symmetric_modulus(matrix: csr_array, unit: Vector) -> float:
    for _, values in group_eigenvalues(matrix):
        return float(np.abs(values[1:]).max())
    ends = tridiagonal_eigenvalues(matrix)
    if ends is not None:
        return float(np.abs(ends[:-1]).max())
    deflated = _deflated(lambda x: matrix @ x, unit)
    if _vanishes(deflated):
        return 0.0
    try:
        return abs(float(eigsh(deflated, k=1, which="LM", v0=_start(len(unit)), ncv=40, maxiter=_RESTARTS)[0][0]))
    except ArpackError:
        pass
    try:
        second = sorted(_nearest(matrix, 1.0 + _SHIFT, 2))[0]
        # Gershgorin: no eigenvalue is below twice the least self weight minus 1.
        if 1.0 - 2.0 * float(matrix.diagonal().min()) <= second:
            return second
        return max(second, abs(_nearest(matrix, -1.0 - _SHIFT, 1)[0]))
    except (RuntimeError, MemoryError):  # no factors, or too many
        return _tried(deflated)


def _directed_modulus(matrix: csr_array, unit: Vector) -> float:
    for _, values in group_eigenvalues(matrix):
        return float(np.abs(values[1:]).max())
    if abs(matrix @ matrix.T - matrix.T @ matrix).max() < _ZERO:
        # The moduli of a normal matrix are its singular values.
        return float(np.sqrt(_symmetric_modulus(csr_array(matrix.T @ matrix), unit)))
    deflated = _deflated(lambda x: matrix @ x, unit)
    if _vanishes(deflated):
        return 0.0
    try:
        found = eigs(deflated, k=2, which="LM", v0=_start(len(unit)), ncv=60, return_eigenvectors=False)
        return float(np.abs(found).max())
    except ArpackError:
        return _tried(deflated)


def _dense_norm(matrices: Sequence[csr_array], unit: Vector) -> float:
    product = np.eye(len(unit))
    for matrix in matrices:
        product = np.asarray(matrix @ product)
    return float(np.linalg.norm(product - np.outer(unit, unit), 2))


def _sparse_norm(matrices: Sequence[csr_array], unit: Vector) -> float:
    groups = [dict(group_eigenvalues(matrix)) for matrix in matrices]
    for shape in groups[0]:
        if all(shape in group for group in groups):
            # Matrices of one group have the same eigenvectors, so the product's values are the products of theirs.
            return float(np.abs(np.prod([group[shape][1:] for group in groups], axis=0)).max())
    transposed = [csr_array(matrix.T) for matrix in reversed(matrices)]

    def gram(x: Vector) -> Vector:
        for matrix in (*matrices, *transposed):
            x = np.asarray(matrix @ x)
        return x

    deflated = _deflated(gram, unit)
    if _vanishes(deflated):
        return 0.0
    try:
        square = abs(eigsh(deflated, k=1, which="LM", v0=_start(len(unit)), ncv=40)[0][0])
    except ArpackError:
        square = _tried(deflated)
    return float(np.sqrt(square))


def _deflated(apply: Callable[[Vector], Vector], unit: Vector) -> Any:
    """Returns the operator without its eigenvector `unit`, of length 1, whose eigenvalue is 1."""

    def matvec(x: Vector) -> Vector:
        applied = apply(np.ravel(x) - unit * np.vdot(unit, x))
        return np.asarray(applied - unit * np.vdot(unit, applied))

    return LinearOperator((len(unit), len(unit)), matvec=matvec, dtype=np.float64)


def _vanishes(operator: Any) -> bool:
    # ARPACK fails on the zero operator; a random vector tells it with certainty.
    start = _start(operator.shape[0])
    return bool(np.linalg.norm(operator @ start) <= _ZERO * np.linalg.norm(start))


def _tried(operator: Any) -> float:
    """Returns by what factor an application still shrinks a random vector after many: the modulus, from below."""
    warnings.warn(
        f"slem is not exact: no solver found it, so it is the factor of a round after {_ROUNDS} rounds from a random "
        "start.",
        stacklevel=2,
    )
    x, last = _start(operator.shape[0]), 0.0
    for _ in range(_ROUNDS):
        x = operator @ (x / np.linalg.norm(x))
        last = float(np.linalg.norm(x))
        if last <= _ZERO:
            break
    return last


def _start(n: int) -> Vector:
    return np.random.Generator(np.random.Philox(0)).standard_normal(n)


def _nearest(matrix: csr_array, shift: float, count: int) -> list[float]:
    """Returns the eigenvalues of a symmetric matrix nearest to `shift`, which is not one of them."""
    found = eigsh(csc_array(matrix), k=count, sigma=shift, v0=_start(matrix.shape[0]), return_eigenvectors=False)
    return [float(value) for value in found]
