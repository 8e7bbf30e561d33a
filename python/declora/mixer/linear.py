"""Linear gossip: the weighted mean of the neighbourhood."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.codec import CheckedFrames
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.ratio import mix_ratio
from declora.mixer.refusals import sit_out
from declora.round_graph import CompleteGraph

__all__ = ["Linear"]


class Linear(Mixer):
    """Gossip in difference form, R_i = sum_j w_ij z_j: `x_i += gamma * sum_j w_ij (z_j - z_i)`.

    With a doubly stochastic W the mean over clients is unchanged whatever the codec did (Xiao and Boyd 2004).
    """

    name = "linear"
    bears_gaps = True
    averages = True

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Mixes `rows [clients, D]` in place with the public values `[clients, D]`."""
        core_matrix(sit_out(weights, refused)).mix(public, rows, gamma)

    def mix_carried(
        self,
        weights: sp.csr_array,
        public: Rows,
        carried: NDArray[np.bool_],
        rows: Rows,
        *,
        gamma: float = 1.0,
        refused: Mask | None = None,
    ) -> None:
        """Mixes each column of `rows [clients, D]` in place by the messages that carry it, see `mix_ratio`."""
        mix_ratio(sit_out(weights, refused), public, carried, rows, gamma=gamma)

    def average(
        self, graph: CompleteGraph, public: Rows | CheckedFrames, rows: Rows, *, gamma: float = 1.0, first: int = 0
    ) -> None:
        """Mixes `rows [clients here, D]` in place by one mean, `x_i += gamma * (sum_j w_j z_j - s z_i)`."""
        mean = _bridge.Average(graph.row, graph.home)
        if isinstance(public, CheckedFrames):
            public.average(mean, rows, gamma, first)
        else:
            mean.mix(public, rows, gamma, first)

    def mix_frames(
        self,
        weights: sp.csr_array,
        frames: CheckedFrames,
        rows: Rows,
        *,
        gamma: float = 1.0,
    ) -> None:
        """Decodes and mixes in one pass; the same bits as decode, then `mix`."""
        frames.mix(core_matrix(sit_out(weights, frames.refused)), rows, gamma)
