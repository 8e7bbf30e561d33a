"""Gossip in the form of a ratio: a weighted mean over those who have something to say of a number."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.plan import Rows

__all__ = ["mix_ratio"]

_COLUMNS = 1 << 14
"""So many are in float64 at a time."""


def mix_ratio(weights: sp.csr_array, public: Rows, counts: NDArray[Any], rows: Rows, *, gamma: float = 1.0) -> None:
    """Moves each number of `rows` towards R_i = sum_j w_ij c_j z_j / sum_j w_ij c_j, for each column by itself.

    With c_ij what message j counts there: 1 where it has the column and 0 where not, or a precision. Where one's own
    message counts, x_i += gamma * (R_i - z_i), as of every mixer, so that what the codec did to one's own value
    cancels; elsewhere x_i itself stands for z_i. So a number that nobody else has stays as it is, bit for bit; of one
    that a single neighbour has, its value is taken as it is (with gamma 1); and where all count the same it is linear
    gossip, up to rounding. The mean over clients is not kept.

    Args:
        weights: Mixing matrix `[clients, messages]`; message i is client i's own for i < clients.
        public: z, float32 `[messages, D]`.
        counts: c `[messages, D]`, bool or numbers of at least 0. Where it is 0, z is not read as a number of weight.
        rows: float32 `[clients, D]`, changed in place.
        gamma: Consensus step size.
    """
    entries = weights.tocoo()
    receivers, messages = entries.coords
    others = receivers != messages
    heard = sp.csr_array(
        (entries.data[others], (receivers[others], messages[others])), shape=weights.shape, dtype=np.float64
    )
    own_weight = weights.diagonal()[:, None]
    for start in range(0, rows.shape[1], _COLUMNS):
        some = slice(start, start + _COLUMNS)
        x, c = rows[:, some].astype(np.float64), counts[:, some].astype(np.float64)
        z = np.where(c > 0, public[:, some], 0.0)
        total, count = heard @ (c * z), heard @ c
        own, mine = c[: len(x)], z[: len(x)]
        # In this form nothing is added where nobody else counts, and nothing is rounded where one counts alone.
        towards = gamma * _ratio(total - count * mine, count + own_weight * own)
        taken = (1.0 - gamma) * x + gamma * _ratio(total, count)
        rows[:, some] = np.where(own > 0, x + towards, np.where(count > 0, taken, x))


def _ratio(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns `total` over `count`; 0 where nobody counts, so that the total is 0, too."""
    return total / np.where(count > 0, count, 1.0)
