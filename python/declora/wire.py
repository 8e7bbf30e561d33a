"""The wire: rows as frames with a header that says whose they are, and frames as rows that are what they should be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.codec import Codec
from declora.model import Layout
from declora.plan import Columns

__all__ = ["Channel", "Wire"]

Rows = NDArray[np.float32]


@dataclass
class Channel:
    """What carries the same columns in every round that sends them."""

    codec: _bridge.Codec
    """For the matrices that these columns are."""
    frames: NDArray[np.uint8]
    """`[messages, frame bytes]`, the frames of the last such round."""


class Wire:
    """Encodes what clients send, and checks what they receive.

    Args:
        codec: Of the run.
        layout: The columns of what is combined.
        senders: uint32 `[messages]`, who sends each.
        run_id: 16 bytes that name the run. Frames of another one are foreign.
        manifest: What all sites have to agree on besides the layout: a frame of a site that does not is foreign.
        seed: Of the codec's random streams.
    """

    def __init__(
        self,
        codec: Codec,
        layout: Layout,
        senders: NDArray[np.uint32],
        *,
        run_id: bytes,
        manifest: Mapping[str, object],
        seed: int,
    ) -> None:
        self._codec = codec
        self._layout = layout
        self._seed = seed
        self._names: dict[str, Any] = {
            "run_id": run_id,
            "manifest": layout.digest(*(f"{name}={value}" for name, value in manifest.items())),
            "senders": senders,
        }
        self._channels: dict[Columns, Channel] = {}

    def channel(self, columns: Columns) -> Channel:
        """Returns what carries these columns of the layout."""
        if columns not in self._channels:
            codec = self._codec.for_shapes(self._layout.shapes_of(columns))
            shape = len(self._names["senders"]), codec.frame_bytes(columns.count)
            self._channels[columns] = Channel(codec.core, np.empty(shape, dtype=np.uint8))
        return self._channels[columns]

    def encode(self, t: int, rows: Rows, columns: Columns) -> NDArray[np.uint8]:
        """Returns the frames of round t for `rows [messages, columns]`, uint8 `[messages, frame bytes]`.

        Raises:
            CodecError: A number cannot be encoded.
        """
        channel = self.channel(columns)
        if not channel.frames.flags.writeable:  # somebody still holds what was checked of it
            channel.frames = np.empty_like(channel.frames)
        _bridge.encode_frames(channel.codec, rows, channel.frames, round=t, seed=self._seed, **self._names)
        return channel.frames

    def sizes(self, frames: NDArray[np.uint8], columns: Columns) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames` are its message, int64 `[messages]`."""
        return _bridge.frame_bytes(self.channel(columns).codec, frames, columns.count)

    def check(self, t: int, frames: NDArray[np.uint8], columns: Columns) -> _bridge.CheckedFrames:
        """Returns the proof of which of `frames` are what they should be in round t."""
        codec = self.channel(columns).codec
        return _bridge.check_frames(codec, frames, columns.count, round=t, partial=True, **self._names)
