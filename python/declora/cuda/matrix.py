"""The mixing matrix on a GPU: sparse rows, or one that all rows are."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora.cuda.codec import Codec, Payloads
from declora.cuda.launch import check_rows, launch, tiles_for
from declora.cuda.transfer import to_device
from declora.errors import ConfigError

__all__ = ["Average", "MixingMatrix"]


class _Mixing(ABC):
    """What mixes rows by what their clients and others sent: as they are, or decoded in the same pass."""

    local: int
    known: int
    _weights: torch.Tensor

    def mix(self, z: torch.Tensor, x: torch.Tensor, gamma: float) -> None:
        """Mixes `x [local, D]` in place by `z [known, D]`, float32, their rows contiguous.

        The two share no memory: a row may be read after it was written.

        Raises:
            ConfigError: They are something else.
        """
        check_rows("z", z, (self.known, x.shape[-1]), self._weights.device)
        check_rows("x", x, (self.local, x.shape[-1]), self._weights.device)
        self._mix(Codec(torch.float32), z, x, gamma)

    def mix_frames(self, frames: Payloads, x: torch.Tensor, gamma: float) -> None:
        """Decodes `frames`, one of each known client, and mixes `x [local, D]`.

        The same bits as `Payloads.decode` to z, then `mix(z, x, gamma)`.

        Raises:
            ConfigError: `x` is something else, or there are more or fewer frames.
        """
        if len(frames.words) != self.known:
            raise ConfigError(f"frames are of {len(frames.words)} clients, but the matrix knows {self.known}.")
        check_rows("x", x, (self.local, frames.columns), self._weights.device)
        self._mix(frames.codec, frames.words, x, gamma)

    @abstractmethod
    def _mix(self, codec: Codec, z: torch.Tensor, x: torch.Tensor, gamma: float) -> None:
        """Starts the kernels on what was checked."""


class MixingMatrix(_Mixing):
    """The mixing matrix W of one round, `[local, known]`, as the core's class of this name has it and has checked it.

    Args:
        indptr: `[local + 1]`, row pointers.
        indices: `[nnz]`, the columns of each row, increasing.
        weights: float64 `[nnz]`.
        known: Number of columns.
        own: int64 `[local]`, the place of each row's own client among the known; row i's is i where None.
        device: Where it mixes.
    """

    def __init__(
        self,
        indptr: NDArray[np.integer[Any]],
        indices: NDArray[np.integer[Any]],
        weights: NDArray[np.float64],
        known: int,
        own: NDArray[np.int64] | None = None,
        *,
        device: torch.device,
    ) -> None:
        self.local, self.known = len(indptr) - 1, known
        places = np.arange(self.local) if own is None else own
        others = indices != np.repeat(places, np.diff(indptr))
        before = np.concatenate([[0], np.cumsum(others)])
        arrays = (before[indptr], indices[others], places)
        self._starts, self._places, self._own = (to_device(array.astype(np.int32), device) for array in arrays)
        self._weights = to_device(weights[others].astype(np.float32), device)

    def _mix(self, codec: Codec, z: torch.Tensor, x: torch.Tensor, gamma: float) -> None:
        from declora.cuda.kernels import mixing

        constants = codec.constants
        tiles = tiles_for(x.shape[1], constants["SPANS"] * constants["SPAN"])
        launch(
            mixing.mix, self.local * tiles, z, z.stride(0), x, x.stride(0), self._starts, self._places, self._weights,
            self._own, float(gamma), x.shape[1], self.local, **constants,
        )  # fmt: skip


class Average(_Mixing):
    """The mixing matrix `1 w^T + home I` of one round, as the core's class of this name has it and would check it.

    Args:
        weights: float64 `[known]`, what each client's values count for everybody.
        home: What each keeps for itself besides.
        device: Where it mixes.
    """

    def __init__(self, weights: NDArray[np.float64], home: float = 0.0, *, device: torch.device) -> None:
        self.local = self.known = len(weights)
        self._share = 1.0 - home
        self._weights = to_device(np.array(weights), device)

    def _mix(self, codec: Codec, z: torch.Tensor, x: torch.Tensor, gamma: float) -> None:
        from declora.cuda.kernels import mixing

        constants, columns = codec.constants, x.shape[1]
        tiles = tiles_for(columns, constants["SPANS"] * constants["SPAN"])
        steps = np.array([self._share, np.float32(gamma)], dtype=np.float64)
        mean = torch.empty(columns, dtype=torch.float64, device=x.device)
        launch(mixing.mean, tiles, z, z.stride(0), self._weights, mean, columns, self.known, **constants)
        launch(
            mixing.move, self.known * tiles, z, z.stride(0), to_device(steps, x.device), mean, x, x.stride(0), columns,
            self.known, WHOLE=bool((steps == 1.0).all()), **constants,
        )  # fmt: skip
