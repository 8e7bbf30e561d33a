"""Linear gossip: the weighted mean of the neighbourhood."""

import scipy.sparse as sp

from declora.codec import CheckedFrames
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.refusals import sit_out

__all__ = ["Linear"]


class Linear(Mixer):
    """Gossip in difference form, R_i = sum_j w_ij z_j: `x_i += gamma * sum_j w_ij (z_j - z_i)`.

    With a doubly stochastic W the mean over clients is unchanged whatever the codec did (Xiao and Boyd 2004).
    """

    name = "linear"

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Mixes `rows [clients, D]` in place with the public values `[clients, D]`."""
        core_matrix(sit_out(weights, refused)).mix(public, rows, gamma)

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
