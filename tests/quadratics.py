"""Gossip on heterogeneous quadratics, in float64 numpy: what methods against the bias of plain gossip must do (V28).

Client i has f_i(x) = x H_i x / 2 - b_i x; together they want the x of least sum. The mixing matrix is a function of the
round; rates are those of the local steps of all rounds, `[rounds, K]`.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Matrix = Callable[[int], Array]


class Quadratics:
    """Curvatures of .2 to 1, and minima that are far apart."""

    def __init__(self, clients: int = 10, columns: int = 6, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        bases = np.linalg.qr(rng.normal(size=(clients, columns, columns)))[0]
        self.curvature = bases * rng.uniform(0.2, 1.0, size=(clients, 1, columns)) @ bases.swapaxes(1, 2)
        self.linear = 2 * rng.normal(size=(clients, columns))
        self.start = np.zeros((clients, columns))
        self.optimum = np.linalg.solve(self.curvature.sum(0), self.linear.sum(0))

    def gradient(self, x: Array) -> Array:
        """Each client's at its own row of `x [clients, columns]`."""
        return (self.curvature @ x[..., None])[..., 0] - self.linear

    def steps(self, x: Array, rates: Array, correction: Array | float = 0.0) -> Array:
        """Local steps, each followed by one against the correction."""
        for rate in rates:
            x = x - rate * self.gradient(x)
            x = x - rate * correction
        return x

    def error(self, x: Array) -> float:
        return float(np.abs(x - self.optimum).max())


def plain(task: Quadratics, w: Matrix, rates: Array) -> Iterator[tuple[Array, Array]]:
    """Dec-LoRA, FedAvg: local steps, then gossip. Yields x and nothing else worth mentioning, zeros."""
    x = task.start
    for t, own in enumerate(rates):
        x = w(t) @ task.steps(x, own)
        yield x, np.zeros_like(x)


def gradient_tracking(task: Quadratics, w: Matrix, rates: Array) -> Iterator[tuple[Array, Array]]:
    """One step a round: x <- W (x - eta y), y <- W y + g_new - g_old. Yields x and the y that moved it."""
    x, g = task.start, task.gradient(task.start)
    y = g
    for t, (rate,) in enumerate(rates):
        x = w(t) @ (x - rate * y)
        yield x, y
        new = task.gradient(x)
        y, g = w(t) @ y + new - g, new


def k_gt(task: Quadratics, w: Matrix, rates: Array) -> Iterator[tuple[Array, Array]]:
    """Tracking by what a round's steps did: delta = (x^0 - x^K) / sum of rates, c <- c - delta + W delta. Yields x, c.

    K-GT, arXiv 2301.01313.
    """
    x, c = task.start, np.zeros_like(task.start)
    for t, own in enumerate(rates):
        local = task.steps(x, own, c)
        delta = (x - local) / own.sum()
        c = c - delta + w(t) @ delta
        x = w(t) @ local
        yield x, c


def d2(task: Quadratics, w: Matrix, rates: Array) -> Iterator[tuple[Array, Array]]:
    """x <- W (2 x - x_before - (d - d_before)), d what a round's steps took from x. Yields x and d."""
    before = taken = np.zeros_like(task.start)
    x = task.start
    for t, own in enumerate(rates):
        d = x - task.steps(x, own)
        mixed = w(t) @ (x - d if t == 0 else 2 * x - before - (d - taken))
        before, taken, x = x, d, mixed
        yield x, d


def exact_diffusion(task: Quadratics, w: Matrix, rates: Array) -> Iterator[tuple[Array, Array]]:
    """D^2 with the correction inside the steps (LED, arXiv 2302.00620): c <- c + (x^K - W x^K) / sum of rates."""
    x, c = task.start, np.zeros_like(task.start)
    for t, own in enumerate(rates):
        local = task.steps(x, own, c)
        x = w(t) @ local
        c = c + (local - x) / own.sum()
        yield x, c


def last(rounds: Iterator[tuple[Array, Array]]) -> Array:
    """x after the last round, or as soon as it has left for infinity."""
    x = np.empty(0)
    for x, _ in rounds:
        if np.abs(x).max() > 1e9:
            return np.full_like(x, np.inf)
    return x


def constant(rate: float, local: int, rounds: int) -> Array:
    return np.full((rounds, local), rate)


def falling(rate: float, local: int, rounds: int) -> Array:
    """Linearly to 0, over all steps."""
    steps = rounds * local
    return rate * (1 - np.arange(steps) / steps).reshape(rounds, local)
