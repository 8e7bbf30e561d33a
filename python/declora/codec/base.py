"""What a codec is: rows to frames and back."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.codec.checked import CheckedFrames, DecodedFrames
from declora.codec.memory import MEMORIES, Memory, NoMemory
from declora.errors import CodecError, FrameError, unknown_name
from declora.spec import spelled

__all__ = ["Codec"]

Rows = NDArray[np.float32]
_TRIAL = 1 << 16
"""Numbers on which a codec's error is measured."""
_LARGEST = float(np.finfo(np.float32).max)


class Codec(ABC):
    """How a row of float32 numbers becomes the bytes of a message and back, and what is remembered between rounds.

    For a codec of your own define `payload_bytes`, `encode` and `decode`, say `unbiased` where it is, and hand an
    object to `simulate(codec=...)`. Its payloads travel in the same frames as all others, with header and checksums,
    and their bytes are counted exactly. Every draw is to be taken from (seed, round, client), so that a run can be repeated;
    `declora.testing.check_codec` measures whether a codec does what it says.
    """

    memory: type[Memory] = NoMemory
    """What is remembered between rounds; see `with_memory`."""

    @property
    def unbiased(self) -> bool:
        """Whether the expectation of what is decoded is what was encoded; say `unbiased = True` in a class."""
        return False

    @property
    def variable_length(self) -> bool:
        """Whether a payload may be shorter than `payload_bytes`; say `variable_length = True` in a class."""
        return False

    @abstractmethod
    def payload_bytes(self, n: int) -> int:
        """Returns the size in bytes of the payload of `n` numbers; the most that it has, of `variable_length`."""

    @abstractmethod
    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of one message.

        Args:
            x: float32 `[n]`, read-only, finite.
            seed: Of all draws, below 2^64.
            round: From 0.
            client: The sender.
        """

    @abstractmethod
    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the numbers of a payload, float32 `[n]`, all finite.

        Raises:
            FrameError: These are bytes that `encode` never writes: the message is then refused, as one with numbers
                that are not finite is. Any other exception ends the run as it is.
        """

    def limit(self, n: int) -> float:
        """Returns the magnitude below which numbers can be encoded in a message of `n`; infinity where all are."""
        return math.inf

    def for_shapes(self, shapes: Sequence[tuple[int, int]]) -> "Codec":
        """Returns the codec for messages that are matrices of these (rows, columns), row-major, one after the other."""
        return self

    def with_memory(self, name: str) -> Self:
        """Returns a copy with a memory: "choco" (public copies), "ef21" or "ef" (error feedback).

        Raises:
            ConfigError: Another name.
        """
        if name not in MEMORIES:
            raise unknown_name("codec memory", name, MEMORIES)
        other = copy.copy(self)
        other.memory = MEMORIES[name]
        return other

    @property
    def scheme(self) -> str:
        """What makes the payload, without options."""
        return type(self).__name__

    @property
    def plain(self) -> str:
        """The codec with its options, without its memory."""
        return spelled(self)

    @property
    def name(self) -> str:
        """As the settings have it."""
        return str(self)

    def __str__(self) -> str:
        """Every setting: two sites whose codecs have one text decode each other's bytes."""
        return self.plain if self.memory is NoMemory else f"{self.plain}+{self.memory.name}"

    @property
    def needs_memory(self) -> bool:
        """Whether it may be used only with a memory: what a biased codec drops would be lost for good."""
        return not self.unbiased

    @property
    def block(self) -> int:
        """Numbers that share a scale in the payload, which then begins with these; 0 where it does not."""
        return 0

    @property
    def keeps_product(self) -> bool:
        """Whether E<z, x> is ||x||^2 for the decoded z."""
        return self.unbiased

    @cached_property
    def error(self) -> float:
        """E||z - x||^2 / ||x||^2 on standard normal numbers, measured, to two digits (a bound is for the worst x)."""
        return self._measured_error()

    @property
    def contraction(self) -> float:
        """A of the contractive codec that a memory makes of it, E||z - x||^2 = (1 - a) ||x||^2 on normal numbers.

        One whose E<z, x> is ||x||^2, with an error of omega, becomes contractive by the factor 1 / (1 + omega): a.

        Raises:
            CodecError: It is biased, and what it decodes is farther from x than nothing is.
        """
        if self.keeps_product:
            return 1.0 / (1.0 + self.error)
        if self.error >= 1:
            raise CodecError(
                f"codec={str(self)!r} has an error of {self.error:g} times what it is given, on normal numbers: zeros "
                "would do better. Scale what it decodes, or say unbiased = True if its expectation is right."
            )
        return 1.0 - self.error

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

    @property
    def elements(self) -> int | None:
        """How many numbers a message has, where the codec fixes it."""
        return None

    def frame_bytes(self, columns: int) -> int:
        """Returns the size of one message of `columns` numbers, header and payload; of `variable_length` the most."""
        return _bridge.HEADER_BYTES + self._payload_bytes(columns)

    def encode_frames(
        self,
        x: Rows,
        out: NDArray[np.uint8],
        *,
        run_id: bytes,
        manifest: bytes,
        round: int,
        senders: NDArray[np.uint32],
        seed: int,
    ) -> NDArray[np.int64]:
        """Encodes row i of `x [N, D]` into frame i of `out`, uint8 `[N, frame_bytes(D)]`; see `check_frames`.

        Returns:
            The bytes of each row that are the message, int64 `[N]`.

        Raises:
            CodecError: A number cannot be encoded, or the codec does not give what it should.
        """
        beyond = ~(np.abs(x) < self.limit(x.shape[1]))
        if beyond.any():
            row, column = (int(index) for index in np.argwhere(beyond)[0])
            raise CodecError(
                f"x[{row}, {column}]={x[row, column]:g} cannot be encoded by codec {self.plain!r}: it must be finite "
                f"and below {min(self.limit(x.shape[1]), _LARGEST):g} in magnitude."
            )
        sizes = np.empty(len(x), dtype=np.int64)
        for row, client in enumerate(senders.tolist()):
            payload = self._encoded(x[row], seed, round, client)
            sizes[row] = len(payload)
            out[row, _bridge.HEADER_BYTES :][: len(payload)] = np.frombuffer(payload, dtype=np.uint8)
        names = {"run_id": run_id, "manifest": manifest, "round": round, "senders": senders}
        _bridge.seal_frames(out, sizes.astype(np.uint64), **names)
        return sizes + _bridge.HEADER_BYTES

    def check_frames(
        self,
        frames: NDArray[np.uint8],
        d: int,
        *,
        run_id: bytes,
        manifest: bytes,
        round: int,
        senders: NDArray[np.uint32],
    ) -> CheckedFrames:
        """Checks whether row i of `frames`, uint8 `[N, bytes]`, is the message of `senders[i]` in `round`.

        Args:
            frames: As they arrived.
            d: Numbers of a row.
            run_id: 16 bytes, of the run.
            manifest: 16 bytes, of what its sites agreed on.
            round: Of all frames, below 2^32.
            senders: uint32 `[N]`.

        Raises:
            CodecError: The codec does not give what it should.
        """
        values, need = np.zeros((len(frames), d), dtype=np.float32), self.frame_bytes(d)
        if frames.shape[1] != need:
            why = f"it has {frames.shape[1]} bytes instead of {need}."
            return DecodedFrames(values, dict.fromkeys(range(len(frames)), why))
        names = {"run_id": run_id, "manifest": manifest, "round": round, "senders": senders}
        sizes, found = _bridge.open_frames(frames, **names)
        faults = dict(found)
        for row in range(len(frames)):
            if row not in faults:
                try:
                    payload = frames[row, _bridge.HEADER_BYTES :][: sizes[row]].tobytes()
                    values[row] = self._decoded(payload, d)
                except FrameError as error:
                    faults[row] = str(error)
        return DecodedFrames(values, faults)

    def _payload_bytes(self, n: int) -> int:
        """Returns `payload_bytes`, checked."""
        count = self.payload_bytes(n)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 <= count < 2**40:
            raise CodecError(
                f"codec={self.plain!r}: payload_bytes({n}) is {count!r}; it must be a whole number of bytes."
            )
        return int(count)

    def _encoded(self, x: Rows, seed: int, round: int, client: int) -> bytes:
        """Returns `encode`, checked."""
        given = x.view()
        given.flags.writeable = False
        payload = self.encode(given, seed=seed, round=round, client=client)
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise CodecError(f"codec={self.plain!r}: encode gives a {type(payload).__name__}; it must give bytes.")
        self._check_size(len(bytes(payload)), len(x))
        return bytes(payload)

    def _decoded(self, payload: bytes, n: int) -> Rows:
        """Returns `decode`, checked.

        Raises:
            FrameError: The bytes are refused.
            CodecError: It gives something else than numbers.
        """
        try:
            self._check_size(len(payload), n)
        except CodecError as error:
            raise FrameError(str(error)) from None
        z = self.decode(payload, n)
        if not isinstance(z, np.ndarray) or z.dtype != np.float32 or z.shape != (n,):
            what = f"{z.dtype} {list(z.shape)}" if isinstance(z, np.ndarray) else f"a {type(z).__name__}"
            raise CodecError(f"codec={self.plain!r}: decode gives {what}; it must give an array, float32 [{n}].")
        if not np.isfinite(z).all():
            raise FrameError(f"payload: number {int(np.argmin(np.isfinite(z)))} is not finite.")
        return z

    def _check_size(self, have: int, n: int) -> None:
        need = self._payload_bytes(n)
        if have > need or (have < need and not self.variable_length):
            raise CodecError(
                f"codec={self.plain!r}: the payload of {n} numbers has {have} bytes, but payload_bytes({n}) is {need}. "
                + ("" if have > need else "Say variable_length = True if it may have fewer.")
            )

    def _measured_error(self) -> float:
        """Measures the relative squared error of this codec on standard normal numbers."""
        count = self.elements or _TRIAL
        draws = seeds.generator(0, "normal-error")
        error = total = 0.0
        for t in range(4):
            x = draws.standard_normal(count, dtype=np.float32)
            try:
                z = self._decoded(self._encoded(x, 0, t, 0), count)
            except FrameError as error_:
                raise CodecError(
                    f"codec={self.plain!r} refuses its own payload of normal numbers: {error_}"
                ) from error_
            error += float(np.square(z - x, dtype=np.float64).sum())
            total += float(np.square(x, dtype=np.float64).sum())
        # Two digits, so that the last bits of a sum, which depend on the machine, do not reach a run.
        return float(f"{error / total:.2g}")
