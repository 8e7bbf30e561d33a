"""Frames whose payloads are written and read in Python, one after the other."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.codec.base import RunCodec
from declora.errors import CodecError, FrameError
from declora.plan import Rows

__all__ = ["open_payloads", "refuse_beyond", "seal_payloads"]


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
