"""What the codec of a run is: rows to frames and back, and what is remembered between rounds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.codec.checked import CheckedFrames
from declora.codec.memory import Memory, NoMemory
from declora.errors import CodecError, FrameError
from declora.plan import Rows

__all__ = ["RunCodec"]

_TRIAL = 1 << 16
"""Numbers on which a codec's error is measured."""
_EXACT = 1e-5
"""That of bf16 is 2.8e-6, that of q8 9.5e-5."""


class RunCodec(ABC):
    """A codec and its memory, as a run uses them, whoever wrote the codec."""

    memory: type[Memory]
    """What is remembered between rounds."""
    core: _bridge.Codec | None
    """What makes the payloads, where it is of the core."""
    finer: "tuple[RunCodec, ...]" = ()
    """Codecs that spend more bits on a number, in rising order, which messages may use for some numbers."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As the settings have it."""

    @property
    @abstractmethod
    def plain(self) -> str:
        """The codec with all its options, without its memory."""

    @property
    @abstractmethod
    def needs_memory(self) -> bool:
        """Whether it may be used only with a memory: what a biased codec drops would be lost for good."""

    @property
    @abstractmethod
    def variable_length(self) -> bool:
        """Whether a payload may be shorter than `payload_bytes` says."""

    @property
    @abstractmethod
    def keeps_product(self) -> bool:
        """Whether E<z, x> is ||x||^2 for the decoded z."""

    @property
    @abstractmethod
    def error(self) -> float:
        """E||z - x||^2 / ||x||^2 on standard normal numbers, measured, to two digits (a bound is for the worst x)."""

    @abstractmethod
    def limit(self, n: int) -> float:
        """Returns the magnitude below which numbers can be encoded in a message of `n`; infinity where all are."""

    @abstractmethod
    def payload_bytes(self, n: int) -> int:
        """Returns the size in bytes of the payload of `n` numbers, the most that it has where it may be shorter."""

    @abstractmethod
    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of `x`, float32 `[n]`, of one client in one round.

        Raises:
            CodecError: A number cannot be encoded.
        """

    @abstractmethod
    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the `n` numbers of a payload, float32, all finite.

        Raises:
            FrameError: No encoder writes these bytes.
        """

    @abstractmethod
    def encode_frames(self, x: Rows, out: NDArray[np.uint8], *, seed: int, **names: Any) -> None:
        """Encodes row i of `x [N, D]` into frame i of `out`, uint8 `[N, frame_bytes(D)]`.

        Args:
            x: float32 `[N, D]`.
            out: Written; zeros after a message that is shorter.
            seed: Of the codec's random streams, below 2^64.
            **names: What the headers say: `run_id` and `manifest`, 16 bytes each, `round`, below 2^32, and `senders`,
                uint32 `[N]`.

        Raises:
            CodecError: A number cannot be encoded.
        """

    @abstractmethod
    def frame_sizes(self, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames`, uint8 `[N, frame_bytes(d)]`, are its message, int64 `[N]`."""

    @abstractmethod
    def check_frames(self, frames: NDArray[np.uint8], d: int, **names: Any) -> CheckedFrames:
        """Checks whether row i of `frames`, uint8 `[N, bytes]`, is the message that was to come from `senders[i]`.

        Args:
            frames: As they arrived.
            d: Numbers of a row.
            **names: As for `encode_frames`.
        """

    def for_shapes(self, shapes: Sequence[tuple[int, int]]) -> "RunCodec":
        """Returns the codec for messages that are matrices of these (rows, columns), row-major, one after the other."""
        return self

    def graded(self) -> "RunCodec":
        """Returns the codec with the finer ones of its family; with none where it has no such family."""
        return self

    def frame_bytes(self, columns: int) -> int:
        """Returns the size of one message of `columns` numbers, header and payload; the most where it may be less."""
        return _bridge.HEADER_BYTES + (self, *self.finer)[-1].payload_bytes(columns)

    def __str__(self) -> str:
        """Every setting: two sites whose codecs have one text decode each other's bytes."""
        return self.plain if self.memory is NoMemory else f"{self.plain}+{self.memory.name}"

    @property
    def contraction(self) -> float:
        """A of the contractive codec that a memory makes of it, E||z - x||^2 = (1 - a) ||x||^2 on normal numbers.

        One whose E<z, x> is ||x||^2, with an error of omega, becomes contractive by the factor 1 / (1 + omega): a.

        Raises:
            CodecError: It is biased, and what it decodes is farther from x than zeros are.
        """
        if self.keeps_product:
            return 1.0 / (1.0 + self.error)
        if self.error >= 1:
            raise CodecError(
                f"codec={str(self)!r} has a relative squared error of {self.error:g} on normal numbers, no less than "
                "zeros have. Scale down what it decodes, or say unbiased = True where its expectation is right."
            )
        return 1.0 - self.error

    @property
    def exact(self) -> bool:
        """Whether all but nothing is lost, as of none, fp16 and bf16: nothing that adds up over rounds."""
        return self.error < _EXACT

    @property
    def shrink(self) -> float:
        """What a memory multiplies decoded values with: 1 / (1 + omega), 1 where the codec is contractive by itself."""
        return self.contraction if self.keeps_product else 1.0

    @property
    def default_gamma(self) -> float:
        """The consensus step size used where the config gives none, to two digits; see `Memory.gamma`.

        1 for none, fp16, bf16, q4 to q8 and eden of 3 bits and more. A codec that loses more has less, with a memory or
        without: natural .85, eden of 2 bits .78, q3 .73, qsgd .53, drive .41, q2 .17, randk .0025.
        """
        return float(f"{self.memory.gamma(self.contraction):.2g}")

    def measured_error(self, count: int = _TRIAL) -> float:
        """Measures `error` on four messages of `count` numbers."""
        draws = seeds.generator(0, "normal-error")
        error = total = 0.0
        for t in range(4):
            x = draws.standard_normal(count, dtype=np.float32)
            try:
                z = self.decode(self.encode(x, seed=0, round=t, client=0), count)
            except FrameError as fault:
                raise CodecError(f"codec={self.plain!r} refuses its own payload of normal numbers: {fault}") from fault
            error += float(np.square(z - x, dtype=np.float64).sum())
            total += float(np.square(x, dtype=np.float64).sum())
        # Two digits, so that the last bits of a sum, which depend on the machine, do not reach a run.
        return float(f"{error / total:.2g}")
