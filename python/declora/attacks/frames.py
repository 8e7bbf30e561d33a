"""Attacks by bytes: messages with correct checksums whose payload decodes to no number.

No honest encoder makes such a payload, so it is put into the encoded frame and the header is sealed again. A receiver
has to refuse it by its content.
"""

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.attacks.attack import Attack

__all__ = ["Inf", "NaN"]

# Offsets in the header, see rust/core/src/frame.rs.
_PAYLOAD_CRC, _PAYLOAD_LEN, _HEADER_CRC = 60, 64, 92


class _NotFinite(Attack):
    """The payload becomes one that holds no number: all bits set, NaN as a float and out of range elsewhere."""

    value: float

    def forge(self, codec: _bridge.Codec, frames: NDArray[np.uint8]) -> None:
        """Replaces the attackers' payloads and seals their frames again."""
        word = np.frombuffer(_first(self.value, codec), dtype=np.uint8)
        for client in self.attackers:
            frame = frames[client]
            length = int(frame[_PAYLOAD_LEN : _PAYLOAD_LEN + 8].view("<u8")[0])
            payload = frame[_bridge.HEADER_BYTES :][:length]
            payload[:] = 0xFF
            payload[: len(word)] = word[:length]
            _seal(frame, _PAYLOAD_CRC, payload)
            _seal(frame, _HEADER_CRC, frame[:_HEADER_CRC])


class NaN(_NotFinite):
    """Attackers send not-a-number."""

    name = "nan"
    value = float("nan")


class Inf(_NotFinite):
    """Attackers send infinity."""

    name = "inf"
    value = float("inf")


def _first(value: float, codec: _bridge.Codec) -> bytes:
    """Returns `value` as the first number, or the scale, that the payload begins with; nothing where it has none."""
    if (
        codec.variable_length
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
