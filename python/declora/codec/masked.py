"""Messages whose senders choose their columns: a map says which and by which codec, payloads have their numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.codec.base import RunCodec
from declora.codec.checked import DecodedFrames
from declora.codec.one_by_one import open_payloads, refuse_beyond, seal_payloads
from declora.errors import CodecError, FrameError
from declora.plan import Rows

__all__ = ["MaskedCodec"]


class MaskedCodec:
    """A codec of the columns that each message carries.

    A payload is a map, a field of a few bits for each unit, the first one the lowest of the first byte, and then what
    the codec makes of the numbers of the columns that are carried, one after the other. A field is 0 for what is not
    carried and 1 for what is: one bit. Of a codec that has finer ones it is 2 for what the first of these makes, 3 for
    the second, and their payloads follow in that order. Bits beyond the last unit are 0.

    Args:
        codec: Of the numbers. It remembers nothing of columns, since these are others in each round.
        units: int64 `[D]`, the unit of each column: columns of one unit are carried together or not at all; -1 for
            those that every message carries, by the codec itself.
    """

    core = None

    def __init__(self, codec: RunCodec, units: NDArray[np.int64]) -> None:
        self._codec = codec
        self._codecs = (codec, *codec.finer)
        self._bits = np.arange(len(self._codecs).bit_length())
        """Places of the bits of a field."""
        chosen = units >= 0
        _, first, fields = np.unique(units[chosen], return_index=True, return_inverse=True)
        self._first = np.flatnonzero(chosen)[first]
        """A column of each unit."""
        self._field = np.full(len(units), -1)
        self._field[chosen] = fields

    @property
    def bitmap_bytes(self) -> int:
        """Bytes in front of the numbers: ceil(units bits / 8), one bit each where the codec has no finer ones."""
        return -(-len(self._first) * len(self._bits) // 8)

    def limit(self, n: int) -> float:
        """Returns what all magnitudes of a message must be below."""
        return min(codec.limit(n) for codec in self._codecs)

    def frame_bytes(self, columns: int) -> int:
        """Returns the size in bytes of a message that carries all `columns`, the most that one has.

        Numbers in several payloads have more blocks and padding than in one: those of a number in each of the others.
        """
        return self._codec.frame_bytes(columns) + self.bitmap_bytes + self._payloads_bytes([1] * len(self._codec.finer))

    def message_bytes(self, counts: Sequence[int]) -> int:
        """Returns the size in bytes of a message that carries so many columns by the codec, and by each finer one."""
        return _bridge.HEADER_BYTES + self.bitmap_bytes + self._payloads_bytes(counts)

    def _payloads_bytes(self, counts: Sequence[int]) -> int:
        return sum(codec.payload_bytes(n) for codec, n in zip(self._codecs, counts, strict=False))

    def encode_frames(
        self, x: Rows, out: NDArray[np.uint8], *, carried: NDArray[np.uint8], seed: int, **names: Any
    ) -> None:
        """Encodes of row i of `x [N, D]` the columns `carried[i]` into frame i of `out`, uint8 `[N, frame_bytes(D)]`.

        Args:
            x: float32 `[N, D]`.
            out: Written; zeros after a message that is shorter.
            carried: uint8 `[N, D]`, the same within a unit: 0 for what is not carried, 1 for what the codec makes, then
                its finer ones.
            seed: Of the codec's random streams, below 2^64.
            **names: What the headers say, as for `RunCodec.encode_frames`.

        Raises:
            CodecError: A number cannot be encoded, a payload is larger than one of more numbers, or `carried` splits a
                unit, or asks for a codec that is not there.
        """
        for code, codec in enumerate(self._codecs, start=1):
            refuse_beyond(codec, np.where(carried == code, x, np.float32(0)))
        seal_payloads(self._payloads(x, carried, out.shape[1], seed, **names), out, **names)

    def _payloads(self, x: Rows, carried: NDArray[np.uint8], size: int, seed: int, **names: Any) -> Iterator[bytes]:
        for row, own, client in zip(x, carried, names["senders"].tolist(), strict=True):
            fields = own[self._first]
            if (own != self._columns(fields)).any():
                raise CodecError("carried splits a unit: a message has all columns of a unit, or none of them.")
            if fields.max(initial=0) > len(self._codecs):
                known = len(self._codecs)
                raise CodecError(f"carried has {fields.max()}, but codec={self._codec.plain!r} goes to {known}.")
            bits = (fields[:, None] >> self._bits) & 1
            payload = np.packbits(bits.ravel(), bitorder="little").tobytes()
            for code, codec in enumerate(self._codecs, start=1):
                stream = seed if code == 1 else seeds.derive(seed, "finer", code)
                payload += codec.encode(row[own == code], seed=stream, round=names["round"], client=client)
            if len(payload) > size - _bridge.HEADER_BYTES:
                raise CodecError(
                    f"codec={self._codec.plain!r}: the payload of {(own > 0).sum()} numbers is larger than "
                    f"payload_bytes says of {len(own)}. A method that sends some columns alone needs a codec that does "
                    "not do so."
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
            own = self._read_map(payload[: self.bitmap_bytes])
            try:
                self._decode(payload[self.bitmap_bytes :], own, values[row])
            except FrameError as error:
                values[row] = 0
                raise FrameError(f"{error} Its bitmap says that it carries {(own > 0).sum()} of {d} columns.") from None
            carried[row] = own > 0

        faults = open_payloads(frames, self.frame_bytes(d), read, **names)
        return DecodedFrames(values, faults, carried)

    def _decode(self, payload: bytes, own: NDArray[np.uint8], out: Rows) -> None:
        """Writes the numbers of a message to `out [D]`, by the codec of each column."""
        for code, codec in enumerate(self._codecs, start=1):
            columns = own == code
            n = int(columns.sum())
            size = len(payload) if code == len(self._codecs) else codec.payload_bytes(n)
            out[columns] = codec.decode(payload[:size], n)
            payload = payload[size:]

    def _read_map(self, bitmap: bytes) -> NDArray[np.uint8]:
        """Returns by which codec columns are carried, uint8 `[D]`.

        Raises:
            FrameError: It is too short, has bits beyond the last unit, or names a codec that is not there.
        """
        if len(bitmap) < self.bitmap_bytes:
            raise FrameError(f"payload: its bitmap has {len(bitmap)} bytes instead of {self.bitmap_bytes}.")
        bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little")
        count = len(self._first) * len(self._bits)
        if bits[count:].any():
            raise FrameError(f"payload: its bitmap has more than {len(self._first)} units.")
        fields = (bits[:count].reshape(-1, len(self._bits)) << self._bits).sum(axis=1, dtype=np.uint8)
        if fields.max(initial=0) > len(self._codecs):
            raise FrameError(f"payload: its bitmap has {fields.max()} for a unit, of {len(self._codecs)} codecs.")
        return self._columns(fields)

    def _columns(self, fields: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns by which codec columns are carried, uint8 `[D]`, where `fields [units]` say it of units."""
        carried: NDArray[np.uint8] = np.append(fields, np.uint8(1))[self._field]  # the last is that of what all carry
        return carried
