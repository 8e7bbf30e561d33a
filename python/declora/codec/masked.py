"""Messages whose senders choose their columns: a bitmap says which, the codec's payload has their numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.codec.base import RunCodec
from declora.codec.checked import DecodedFrames
from declora.codec.one_by_one import open_payloads, refuse_beyond, seal_payloads
from declora.errors import CodecError, FrameError
from declora.plan import Rows

__all__ = ["MaskedCodec"]


class MaskedCodec:
    """A codec of the columns that each message carries.

    A payload is a bitmap, a bit for each unit, the first one the lowest of the first byte, and then what the codec
    makes of the numbers of the columns that are carried, one after the other. Bits beyond the last unit are 0.

    Args:
        codec: Of the numbers. It remembers nothing of columns, since these are others in each round.
        units: int64 `[D]`, the unit of each column: columns of one unit are carried together or not at all; -1 for
            those that every message carries.
    """

    core = None

    def __init__(self, codec: RunCodec, units: NDArray[np.int64]) -> None:
        self._codec = codec
        chosen = units >= 0
        _, first, bits = np.unique(units[chosen], return_index=True, return_inverse=True)
        self._first = np.flatnonzero(chosen)[first]
        """A column of each unit."""
        self._bit = np.full(len(units), -1)
        self._bit[chosen] = bits

    @property
    def bitmap_bytes(self) -> int:
        """Bytes in front of the numbers: ceil(units / 8)."""
        return -(-len(self._first) // 8)

    def limit(self, n: int) -> float:
        """Returns what all magnitudes of a message must be below."""
        return self._codec.limit(n)

    def frame_bytes(self, columns: int) -> int:
        """Returns the size in bytes of a message that carries all `columns`, the most that one has."""
        return self._codec.frame_bytes(columns) + self.bitmap_bytes

    def encode_frames(
        self, x: Rows, out: NDArray[np.uint8], *, carried: NDArray[np.bool_], seed: int, **names: Any
    ) -> None:
        """Encodes of row i of `x [N, D]` the columns `carried[i]` into frame i of `out`, uint8 `[N, frame_bytes(D)]`.

        Args:
            x: float32 `[N, D]`.
            out: Written; zeros after a message that is shorter.
            carried: bool `[N, D]`, the same within a unit.
            seed: Of the codec's random streams, below 2^64.
            **names: What the headers say, as for `RunCodec.encode_frames`.

        Raises:
            CodecError: A number cannot be encoded, a payload is larger than one of more numbers, or `carried` splits a
                unit.
        """
        refuse_beyond(self._codec, np.where(carried, x, np.float32(0)))
        seal_payloads(self._payloads(x, carried, out.shape[1], seed, **names), out, **names)

    def _payloads(self, x: Rows, carried: NDArray[np.bool_], size: int, seed: int, **names: Any) -> Iterator[bytes]:
        for row, own, client in zip(x, carried, names["senders"].tolist(), strict=True):
            bits = own[self._first]
            if (own != self._columns(bits)).any():
                raise CodecError("carried splits a unit: a message has all columns of a unit, or none of them.")
            bitmap = np.packbits(bits, bitorder="little").tobytes()
            payload = bitmap + self._codec.encode(row[own], seed=seed, round=names["round"], client=client)
            if len(payload) > size - _bridge.HEADER_BYTES:
                raise CodecError(
                    f"codec={self._codec.plain!r}: the payload of {own.sum()} numbers is larger than payload_bytes "
                    f"says of {len(own)}. A method that sends some columns alone needs a codec that does not do so."
                )
            yield payload

    def frame_sizes(self, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames`, uint8 `[N, frame_bytes(d)]`, are its message, int64 `[N]`."""
        return _bridge.sealed_bytes(frames)

    def check_frames(self, frames: NDArray[np.uint8], d: int, **names: Any) -> DecodedFrames:
        """Opens row i of `frames`, uint8 `[N, bytes]`, as the message that is expected, and decodes it.

        Args:
            frames: As they arrived.
            d: Numbers of a row.
            **names: As for `encode_frames`.
        """
        values, carried = np.zeros((len(frames), d), dtype=np.float32), np.zeros((len(frames), d), dtype=np.bool_)

        def read(row: int, payload: bytes) -> None:
            own = self._read_bitmap(payload[: self.bitmap_bytes])
            try:
                values[row, own] = self._codec.decode(payload[self.bitmap_bytes :], int(own.sum()))
            except FrameError as error:
                raise FrameError(f"{error} Its bitmap says that it carries {own.sum()} of {d} columns.") from None
            carried[row] = own

        faults = open_payloads(frames, self.frame_bytes(d), read, **names)
        return DecodedFrames(values, faults, carried)

    def _read_bitmap(self, bitmap: bytes) -> NDArray[np.bool_]:
        """Returns which columns a bitmap says are carried, bool `[D]`.

        Raises:
            FrameError: It is too short, or has bits beyond the last unit.
        """
        if len(bitmap) < self.bitmap_bytes:
            raise FrameError(f"payload: its bitmap has {len(bitmap)} bytes instead of {self.bitmap_bytes}.")
        bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little").astype(np.bool_)
        if bits[len(self._first) :].any():
            raise FrameError(f"payload: its bitmap has more than {len(self._first)} units.")
        return self._columns(bits[: len(self._first)])

    def _columns(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which columns are carried, bool `[D]`, where `bits [units]` are."""
        carried: NDArray[np.bool_] = np.append(bits, True)[self._bit]  # the last one is that of what all carry
        return carried
