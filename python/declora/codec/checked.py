"""Frames that were looked at one by one: which of them are refused, and what the others decode to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.plan import Mask, Rows

__all__ = ["CheckedFrames", "CoreFrames", "DecodedFrames"]


class CheckedFrames(ABC):
    """The frames of a round after `Codec.check_frames`; the only thing that is decoded."""

    refused: Mask
    """`[N]`, which are not the message that was expected, undamaged and decodable to finite numbers."""
    faults: list[tuple[int, str]]
    """The rows that are refused, ascending, each with the reason."""
    carried: NDArray[np.bool_] | None = None
    """`[N, D]`, which columns each message carries; None where all carry all."""

    def __len__(self) -> int:
        return len(self.refused)

    @abstractmethod
    def decode(self, out: Rows) -> None:
        """Writes what they hold to `out [N, D]`: zeros for those that were refused."""

    @abstractmethod
    def mix(self, matrix: _bridge.MixingMatrix, rows: Rows, gamma: float) -> None:
        """Mixes `rows [local, D]` in place by them: the same bits as `decode` to z, then `matrix.mix(z, rows, gamma)`.

        Raises:
            FrameError: One that was refused has a weight.
        """

    @abstractmethod
    def average(self, mean: _bridge.Average, rows: Rows, gamma: float, first: int) -> None:
        """Mixes `rows [local, D]` in place by them: the same bits as `decode`, then `mean.mix(z, rows, gamma, first)`.

        Raises:
            FrameError: One that was refused has a weight.
        """


class CoreFrames(CheckedFrames):
    """Those of a codec of the core, which decodes and mixes in one pass."""

    def __init__(self, proof: _bridge.CheckedFrames) -> None:
        self._proof = proof
        self.refused, self.faults = proof.refused, proof.faults

    def decode(self, out: Rows) -> None:
        """Writes what they hold to `out [N, D]`."""
        _bridge.decode_frames(self._proof, out)

    def mix(self, matrix: _bridge.MixingMatrix, rows: Rows, gamma: float) -> None:
        """Mixes `rows [local, D]` in place by them."""
        matrix.mix_frames(self._proof, rows, gamma)

    def average(self, mean: _bridge.Average, rows: Rows, gamma: float, first: int) -> None:
        """Mixes `rows [local, D]` in place by them."""
        mean.mix_frames(self._proof, rows, gamma, first)


class DecodedFrames(CheckedFrames):
    """Those of a codec in Python, which had to be decoded to be checked.

    Args:
        values: What they hold, float32 `[N, D]`, zeros for those that are refused.
        faults: The reason by row of those that are.
        carried: bool `[N, D]`, which columns each carries; None where all carry all.
    """

    def __init__(self, values: Rows, faults: Mapping[int, str], carried: NDArray[np.bool_] | None = None) -> None:
        self._values, self.carried = values, carried
        self.faults = sorted(faults.items())
        self.refused = np.isin(np.arange(len(values)), list(faults))

    def decode(self, out: Rows) -> None:
        """Writes what they hold to `out [N, D]`."""
        out[:] = self._values

    def mix(self, matrix: _bridge.MixingMatrix, rows: Rows, gamma: float) -> None:
        """Mixes `rows [local, D]` in place by them."""
        matrix.mix(self._values, rows, gamma)

    def average(self, mean: _bridge.Average, rows: Rows, gamma: float, first: int) -> None:
        """Mixes `rows [local, D]` in place by them."""
        mean.mix(self._values, rows, gamma, first)
