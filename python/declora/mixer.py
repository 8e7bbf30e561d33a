"""Mixers: how a row combines its own and its neighbours' public values."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge

__all__ = ["LinearMixer"]


class LinearMixer:
    """Gossip in difference form: `x_i += gamma * sum_j w_ij (z_j - z_i)`.

    z_j is what *every* holder reconstructs from client j's bytes, one's own z too. With a doubly stochastic W the mean
    over clients is then unchanged whatever the codec did.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def mix(self, weights: sp.csr_array, public: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
        """Mixes `rows [clients, D]` in place with the public values `[clients, D]`."""
        _core_matrix(weights).mix(public, rows, self.gamma)

    def mix_frames(
        self,
        weights: sp.csr_array,
        codec: _bridge.Codec,
        frames: NDArray[np.uint8],
        rows: NDArray[np.float32],
    ) -> None:
        """Decodes the frames `[clients, frame bytes]` and mixes in one pass; the same bits as decode, then `mix`."""
        _core_matrix(weights).mix_frames(codec, frames, rows, self.gamma)


def _core_matrix(weights: sp.csr_array) -> _bridge.MixingMatrix:
    """Hands W to the core, which checks it. The cost is that of its edges, nothing beside a row of adapters."""
    return _bridge.MixingMatrix(
        weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data.astype(np.float64)
    )
