"""Measures what a mixing matrix, or a schedule of them, does to the rows that it mixes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from declora import seeds
from declora.errors import ConfigError, ConformanceError
from declora.kinds import Whole
from declora.round_graph import Matrices
from declora.topology import Topology, files
from declora.topology.spectrum import second_modulus

__all__ = ["MatrixReport", "check_matrix", "load_matrix"]

_TOLERANCE = 1e-9
_WIDTH = 8
"""Columns of the rows that are mixed as a trial."""


@dataclass(frozen=True)
class MatrixReport:
    """Holds what was measured of one mixing matrix or schedule, and what of it breaks a promise."""

    name: str
    clients: int
    period: int
    row_error: float
    """Largest |sum of a row - 1|."""
    column_error: float
    """Largest |sum of a column - 1|."""
    least: float
    """Least entry."""
    symmetric: bool
    connected: bool
    """Whether every client reaches every other one over a period."""
    slem: float
    """Second largest eigenvalue modulus, per round."""
    contraction: float
    """Measured: what a round leaves of the consensus distance of random rows, the mean over 4 periods or more."""
    mean_drift: float
    """Largest change of the mean of rows of about 1 over these rounds, float64."""
    failures: list[str] = field(default_factory=list)
    """What was found wrong, in words."""

    @property
    def spectral_gap(self) -> float:
        """Returns 1 - slem."""
        return 1.0 - self.slem

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Raises what was found wrong.

        Raises:
            ConformanceError: The matrix breaks a promise.
        """
        if self.failures:
            raise ConformanceError(f"matrix {self.name!r}: " + "; ".join(self.failures) + ".")


def check_matrix(
    weights: "Topology | ArrayLike | csr_array | Sequence[ArrayLike | csr_array]", *, name: str = "", seed: int = 0
) -> MatrixReport:
    """Measures a mixing matrix and holds it to what gossip needs.

    It must have entries of at least 0, rows and columns that sum to 1 within 1e-9, a graph that is connected over a
    period, and so keep the mean and lead to consensus. It is looked at, not corrected: a matrix that `Topology`
    refuses can be measured here.

    Args:
        weights: A `Topology`, an array or sparse matrix `[n, n]`, or a list of them, one per round of a period.
        name: What to call it in the report.
        seed: Seed of the rows that are mixed as a trial.

    Raises:
        ConfigError: Something that is not square, or not finite, matrices of several sizes, or a seed out of range.
    """
    seed = Whole(0, 2**64 - 1).check("seed", seed)
    matrices = [_dense(matrix) for matrix in _sequence(weights)]
    n = len(matrices[0])
    if any(len(matrix) != n for matrix in matrices):
        raise ConfigError(
            f"weights of {sorted({len(matrix) for matrix in matrices})} clients are no schedule of one graph."
        )
    label = name or (weights.name if isinstance(weights, Topology) else f"{n} x {n}")
    rows = max(float(np.abs(matrix.sum(1) - 1.0).max()) for matrix in matrices)
    columns = max(float(np.abs(matrix.sum(0) - 1.0).max()) for matrix in matrices)
    least = min(float(matrix.min()) for matrix in matrices)
    symmetric = all(float(np.abs(matrix - matrix.T).max()) <= _TOLERANCE for matrix in matrices)
    union = nx.from_numpy_array(np.sum([np.abs(matrix) for matrix in matrices], axis=0), create_using=nx.DiGraph)
    connected = nx.is_strongly_connected(union)
    slem = second_modulus([csr_array(matrix) for matrix in matrices], symmetric=symmetric)
    contraction, drift = _mix(matrices, seed)
    failures = []
    if rows > _TOLERANCE:
        failures.append(f"a row sums to 1 only within {rows:.2g}, so equal clients would not stay equal")
    if columns > _TOLERANCE:
        failures.append(f"a column sums to 1 only within {columns:.2g}, so the mean over clients moves")
    if least < 0.0:
        failures.append(f"an entry is {least:.3g}, below 0")
    if not connected:
        failures.append("its graph is not connected: some clients never hear of others")
    if slem > 1.0 - 1e-12 and connected and n > 1:
        failures.append(f"its second eigenvalue modulus is {slem:.6g}: clients do not agree in the end")
    if columns <= _TOLERANCE and drift > 1e-12:
        failures.append(f"the mean over clients moves by {drift:.1e}")
    return MatrixReport(
        label, n, len(matrices), rows, columns, least, symmetric, connected, slem, contraction, drift, failures
    )


def load_matrix(path: str | Path) -> csr_array:
    """Returns the matrix in a file: `.npy`, `.npz` (as `scipy.sparse.save_npz` writes it), or else text with commas.

    Raises:
        TopologyError: The file cannot be read as that.
    """
    return files.load_matrix(path, field="matrix")


def _sequence(weights: object) -> list[object]:
    if isinstance(weights, Topology):
        return list(weights.matrices)
    if isinstance(weights, Matrices):
        return list(weights)
    if isinstance(weights, list | tuple) and any(issparse(matrix) or np.ndim(matrix) == 2 for matrix in weights[:1]):
        return list(weights)
    return [weights]


def _dense(matrix: object) -> NDArray[np.float64]:
    try:
        dense = np.asarray(matrix.toarray() if issparse(matrix) else matrix, np.float64)  # type: ignore[attr-defined]
    except (TypeError, ValueError, MemoryError) as error:
        raise ConfigError(f"weights are no mixing matrix ({str(error)[:80]}); give numbers, [n, n].") from error
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1] or not dense.size:
        raise ConfigError(f"weights of shape {dense.shape} are no mixing matrix; give a square matrix [n, n].")
    if not np.isfinite(dense).all():
        raise ConfigError("weights hold a number that is not finite; give a matrix of finite numbers.")
    return dense


def _mix(matrices: list[NDArray[np.float64]], seed: int) -> tuple[float, float]:
    """Returns the mean factor of the consensus distance per round, and the largest change of the mean."""
    x = seeds.generator(seed, "conformance", "rows").standard_normal((len(matrices[0]), _WIDTH))
    mean, start = x.mean(0), float(np.linalg.norm(x - x.mean(0)))
    rounds = 4 * len(matrices)
    for matrix in matrices * 4:
        x = matrix @ x
    if start == 0.0:
        return 0.0, float(np.abs(x.mean(0) - mean).max())
    left = float(np.linalg.norm(x - x.mean(0))) / start
    return left ** (1 / rounds) if left > 1e-12 else 0.0, float(np.abs(x.mean(0) - mean).max())
