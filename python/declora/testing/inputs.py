"""Draws vectors that tell codecs apart, float32 `[LENGTH]`, each from a generator."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["INPUTS", "LENGTH"]

LENGTH = 8192
Vector = NDArray[np.float32]


def _normal(draws: np.random.Generator) -> Vector:
    return draws.standard_normal(LENGTH, dtype=np.float32)


def _heavy(draws: np.random.Generator) -> Vector:
    """Draws Student's t with 3 degrees of freedom, as trained weights tend to be."""
    return draws.standard_t(3, LENGTH).astype(np.float32)


def _sparse(draws: np.random.Generator) -> Vector:
    return np.where(draws.random(LENGTH) < 0.01, _normal(draws), np.float32(0))


def _pair(draws: np.random.Generator) -> Vector:
    """Returns two numbers alone, of which a rotation that is not random enough makes four values."""
    x = np.zeros(LENGTH, np.float32)
    x[[0, 1]] = 5, 4
    return x


def _pairs(draws: np.random.Generator) -> Vector:
    """Returns the same in each 32 numbers, the shortest blocks: a bias of them all is found among less noise."""
    return np.tile(_pair(draws)[:32], LENGTH // 32)


def _far(draws: np.random.Generator) -> Vector:
    x = _normal(draws)
    x[LENGTH // 3] = 1e3
    return x


def _uneven(draws: np.random.Generator) -> Vector:
    """Draws blocks of very different magnitude, as A beside a fresh B."""
    return _normal(draws) * np.repeat(np.float32(10) ** np.arange(-4, 4, dtype=np.float32), LENGTH // 8)


INPUTS: dict[str, Callable[[np.random.Generator], Vector]] = {
    "normal": _normal,
    "heavy-tailed": _heavy,
    "sparse": _sparse,
    "pair of": _pair,
    "pairs of": _pairs,
    "far": _far,
    "uneven": _uneven,
    "equal": lambda draws: np.full(LENGTH, 0.7, np.float32),
    "zero": lambda draws: np.zeros(LENGTH, np.float32),
}
