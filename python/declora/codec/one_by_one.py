"""Frames whose payloads are written and read in Python, one after the other."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.codec.base import RunCodec
from declora.codec.checked import DecodedFrames
from declora.errors import CodecError, FrameError
from declora.plan import Rows

__all__ = ["OneByOne", "open_payloads", "refuse_beyond", "seal_payloads"]


def refuse_beyond(codec: RunCodec, x: Rows) -> None:
    """Checks that a codec can encode all numbers of `x`, float32 `[N, D]`.

    Raises:
        CodecError: One is not finite, or at or above the codec's limit; names its row and column.
    """
    limit = codec.limit(x.shape[1])
    beyond = ~(np.abs(x) < limit)
    if beyond.any():
        row, column = (int(index) for index in np.argwhere(beyond)[0])
        bound = "" if limit == math.inf else f" and below {limit:g} in magnitude"
        raise CodecError(
            f"x[{row}, {column}]={x[row, column]:g} cannot be encoded by codec {codec.plain!r}: it must be "
            f"finite{bound}."
        )


def seal_payloads(payloads: Iterable[bytes], out: NDArray[np.uint8], **names: Any) -> None:
    """Puts payload i into frame i of `out`, uint8 `[N, bytes]`, after its header, and zeros after a shorter one."""
    lens = np.empty(len(out), dtype=np.uint64)
    for row, payload in enumerate(payloads):
        lens[row] = len(payload)
        out[row, _bridge.HEADER_BYTES :][: len(payload)] = np.frombuffer(payload, dtype=np.uint8)
    _bridge.seal_frames(out, lens, **names)


def open_payloads(
    frames: NDArray[np.uint8], size: int, read: Callable[[int, bytes], None], **names: Any
) -> dict[int, str]:
    """Hands each row of `frames`, uint8 `[N, size]`, that is the message expected to `read(row, payload)`.

    Returns:
        What is wrong with each of the other rows, and of those whose payload `read` refuses by a FrameError.
    """
    if frames.shape[1] != size:
        return dict.fromkeys(range(len(frames)), f"it has {frames.shape[1]} bytes instead of {size}.")
    lens, found = _bridge.open_frames(frames, **names)
    faults = dict(found)
    for row in sorted(set(range(len(frames))) - faults.keys()):
        try:
            read(row, frames[row, _bridge.HEADER_BYTES :][: lens[row]].tobytes())
        except FrameError as error:
            faults[row] = str(error)
    return faults


class OneByOne(RunCodec):
    """A codec whose frames are made and opened by its `encode` and `decode`."""

    def encode_frames(self, x: Rows, out: NDArray[np.uint8], *, seed: int, **names: Any) -> None:
        """Encodes row i of `x [N, D]` into frame i of `out`, one after the other.

        Raises:
            CodecError: A number cannot be encoded, or a payload is not what the codec says.
        """
        refuse_beyond(self, x)
        payloads = (
            self.encode(row, seed=seed, round=names["round"], client=client)
            for row, client in zip(x, names["senders"].tolist(), strict=True)
        )
        seal_payloads(payloads, out, **names)

    def frame_sizes(self, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames` are its message, int64 `[N]`."""
        return _bridge.sealed_bytes(frames)

    def check_frames(self, frames: NDArray[np.uint8], d: int, **names: Any) -> DecodedFrames:
        """Opens row i of `frames`, uint8 `[N, bytes]`, as the message that is expected, and decodes it.

        Raises:
            CodecError: The codec gives something else than numbers.
        """
        values = np.zeros((len(frames), d), dtype=np.float32)

        def read(row: int, payload: bytes) -> None:
            values[row] = self.decode(payload, d)

        return DecodedFrames(values, open_payloads(frames, self.frame_bytes(d), read, **names))
