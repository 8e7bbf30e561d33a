"""Attacks by bytes: messages with correct checksums whose payload no honest encoder makes.

It is put into the encoded frame, and the header is sealed again. A receiver has to judge it by its content.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.attacks.attack import Attack, Rows
from declora.errors import FrameError

__all__ = ["Crafted", "Inf", "NaN"]

# Offsets in the header, see rust/core/src/frame.rs.
_PAYLOAD_CRC, _PAYLOAD_LEN, _HEADER_CRC = 60, 64, 92
_EDEN_NONCE = 8
"""Bytes before the scales of eden, see rust/core/src/codec/eden.rs."""


class _Forged(Attack):
    """An attack that changes the payload and seals the frame again."""

    def forge(self, t: int, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Changes the attackers' payloads and seals their frames again."""
        for message in self._heard_at(self.acting):
            frame = frames[message]
            length = int(frame[_PAYLOAD_LEN : _PAYLOAD_LEN + 8].view("<u8")[0])
            payload = frame[_bridge.HEADER_BYTES :][:length]
            self.rewrite(*codecs[message], payload)
            _seal(frame, _PAYLOAD_CRC, payload)
            _seal(frame, _HEADER_CRC, frame[:_HEADER_CRC])

    @abstractmethod
    def rewrite(self, codec: _bridge.Codec | None, columns: int, payload: NDArray[np.uint8]) -> None:
        """Changes an attacker's `payload` of so many columns, uint8 `[bytes]`, in place."""


class _NotFinite(_Forged):
    """The payload becomes one that holds no number: all bits set, NaN as a float and out of range elsewhere."""

    value: float

    def rewrite(self, codec: _bridge.Codec | None, columns: int, payload: NDArray[np.uint8]) -> None:
        """Sets all bits, and the first number or scale to the value."""
        word = np.frombuffer(_first(self.value, codec), dtype=np.uint8)
        payload[:] = 0xFF
        payload[: len(word)] = word[: len(payload)]


class NaN(_NotFinite):
    """Attackers send not-a-number."""

    name = "nan"
    value = float("nan")


class Inf(_NotFinite):
    """Attackers send infinity."""

    name = "inf"
    value = float("inf")


class Crafted(_Forged):
    """Attackers send the largest finite numbers that pass the check of their codec, against the mean of the honest.

    Each number is as large as the codec encodes, and scales that numbers share are as large as a receiver takes them.
    A robust rule must bear such values, and public copies must not be summed up to infinity by them.
    """

    name = "crafted"

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns infinity with the sign opposite to the honest mean, which is cut to the largest number."""
        mean: NDArray[np.float64] = rows[self.honest(len(rows))].mean(axis=0, dtype=np.float64)
        return np.copysign(np.inf, -mean)

    def rewrite(self, codec: _bridge.Codec | None, columns: int, payload: NDArray[np.uint8]) -> None:
        """Sets every scale to the largest that passes, where the payload has scales that can be found."""
        if codec is None or codec.block == 0 or codec.variable_length:
            return
        first = _EDEN_NONCE if codec.name == "eden" else 0
        scales = payload[first:][: 4 * -(-columns // codec.block)].view("<u4")
        decoded = np.empty(columns, dtype=np.float32)
        # The bits of positive floats are ordered as they are.
        passing, refused = int(scales.max()), int(np.float32(np.inf).view(np.uint32))
        while refused - passing > 1:
            middle = (passing + refused) // 2
            scales[:] = middle
            try:
                codec.decode(payload, decoded)
                passing = middle
            except FrameError:
                refused = middle
        scales[:] = passing


def _first(value: float, codec: _bridge.Codec | None) -> bytes:
    """Returns `value` as the first number, or the scale, that the payload begins with; nothing where it has none."""
    if (
        codec is None
        or codec.variable_length
        or (codec.block == 0 and codec.name not in ("none", "fp16", "bf16"))
        or codec.name == "eden"
    ):
        return b""
    if codec.name == "fp16":
        return np.array(value, dtype="<f2").tobytes()
    word = np.array(value, dtype="<f4").tobytes()
    return word[2:] if codec.name == "bf16" else word


def _seal(frame: NDArray[np.uint8], at: int, data: NDArray[np.uint8]) -> None:
    checksum = _bridge.crc32c(np.ascontiguousarray(data))
    frame[at : at + 4] = np.frombuffer(checksum.to_bytes(4, "little"), dtype=np.uint8)
