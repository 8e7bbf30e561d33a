"""The wire: rows as frames with a header that says whose they are, and frames as rows that are what they should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge
from declora.codec import CheckedFrames, MaskedCodec, RunCodec, parse_codec
from declora.model import Layout
from declora.model.ranks import beyond
from declora.plan import Columns, Rows

__all__ = ["Channel", "CheckedRound", "Wire"]

_WHOLE = parse_codec("none")


@dataclass
class Channel:
    """What carries the same columns of the same messages in every round that sends them."""

    codec: RunCodec | MaskedCodec
    """For the matrices that these columns are, or for what each sender chooses of them."""
    messages: NDArray[np.int64]
    """Which of the round's."""
    columns: NDArray[np.int64]
    """Which of those that are sent: all but what the senders lack."""
    frames: NDArray[np.uint8]
    """`[own messages, frame bytes]`, the frames of the last such round."""

    def of(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the channel's own of a round's `frames`: these themselves where it carries all."""
        if frames.shape == self.frames.shape:
            return frames
        return np.ascontiguousarray(frames[self.messages, : self.frames.shape[1]])


@dataclass(frozen=True)
class CheckedRound:
    """The frames of a round, checked one by one."""

    parts: tuple[tuple[Channel, CheckedFrames], ...]
    columns: int
    """How many are sent."""

    @property
    def whole(self) -> CheckedFrames | None:
        """All frames, where each carries every column that is sent; else None."""
        channel, frames = self.parts[0]
        alone = len(self.parts) == 1 and len(channel.columns) == self.columns
        return frames if alone and frames.carried is None else None

    @property
    def faults(self) -> dict[int, str]:
        """The messages that were refused, and the first thing that is wrong with each."""
        found = {int(channel.messages[row]): why for channel, frames in self.parts for row, why in frames.faults}
        return dict(sorted(found.items()))

    @property
    def refused(self) -> NDArray[np.bool_]:
        """Which messages were refused, bool `[messages]`."""
        refused = np.zeros(sum(len(frames) for _, frames in self.parts), dtype=np.bool_)
        for channel, frames in self.parts:
            refused[channel.messages] = frames.refused
        return refused

    def carried(self) -> NDArray[np.bool_] | None:
        """Returns which columns each message carries, bool `[messages, columns]`; None where no sender chooses.

        A message that was refused carries none.
        """
        if all(frames.carried is None for _, frames in self.parts):
            return None
        found = np.zeros((len(self.refused), self.columns), dtype=np.bool_)
        for channel, frames in self.parts:
            found[np.ix_(channel.messages, channel.columns)] = frames.carried
        return found

    def decoded(self) -> Rows:
        """Returns what the messages carry, float32 `[messages, columns]`; zeros where one lacks a column."""
        out = np.zeros((len(self.refused), self.columns), dtype=np.float32)
        if self.whole is not None:
            self.whole.decode(out)
            return out
        for channel, frames in self.parts:
            own = np.empty((len(frames), len(channel.columns)), dtype=np.float32)
            frames.decode(own)
            out[np.ix_(channel.messages, channel.columns)] = own
        return out


class Wire:
    """Encodes what clients send, and checks what they receive.

    Args:
        codec: Of the run.
        layout: The columns of what is combined.
        senders: uint32 `[messages]`, who sends each.
        run_id: 16 bytes that name the run. Frames of another one are foreign.
        manifest: What all sites have to agree on besides the layout: a frame of a site that does not is foreign.
        seed: Of the codec's random streams.
        ranks: Each client's; beyond it a message carries nothing. None: all have that of the layout.
        units: int64 `[columns of the layout]`, as `MaskedCodec` takes them, where each sender chooses its columns anew
            in each round. None: nobody chooses.
        sent: Which messages are sent from here, and so encoded; None: all.
    """

    def __init__(
        self,
        codec: RunCodec,
        layout: Layout,
        senders: NDArray[np.uint32],
        *,
        run_id: bytes,
        manifest: Mapping[str, object],
        seed: int,
        ranks: Sequence[int] | None = None,
        units: NDArray[np.int64] | None = None,
        sent: Sequence[slice] | None = None,
    ) -> None:
        self._sent = (slice(0, len(senders)),) if sent is None else tuple(sent)
        self._codec = codec
        self._layout = layout
        self._seed = seed
        self._units = units
        self._names: dict[str, Any] = {
            "run_id": run_id,
            "manifest": layout.digest(*(f"{name}={value}" for name, value in manifest.items())),
            "senders": senders,
        }
        self._ranks = np.full(len(senders), -1) if ranks is None else np.array(ranks)[senders]
        self._elsewhere = sorted(set(() if ranks is None else ranks) - set(self._ranks.tolist()))
        self._channels: dict[Columns, tuple[Channel, ...]] = {}
        self._widths: dict[Columns, int] = {}
        self._codecs: dict[Columns, list[tuple[_bridge.Codec | None, int]]] = {}

    def channels(self, columns: Columns) -> tuple[Channel, ...]:
        """Returns what carries these columns of the layout, of senders of each rank."""
        if columns not in self._channels:
            self._channels[columns] = tuple(self._channel(columns, rank) for rank in np.unique(self._ranks).tolist())
        return self._channels[columns]

    def _channel(self, columns: Columns, rank: int) -> Channel:
        messages, layout, own = np.flatnonzero(self._ranks == rank), self._layout, np.arange(columns.count)
        if rank >= 0:
            lacks = beyond(layout, [rank], torch.device("cpu")).numpy()
            own, layout = np.flatnonzero(~columns.take(lacks)[0]), layout.at_rank(rank)
        codec: RunCodec | MaskedCodec
        if self._units is None:
            taken = self._layout.inside(columns)
            codec = self._codec.for_shapes([shape for shape, sent in zip(layout.shapes, taken, strict=True) if sent])
        else:
            codec = MaskedCodec(self._codec.for_shapes(()), columns.take(self._units[None])[0, own])
        frames = np.empty((len(messages), codec.frame_bytes(len(own))), dtype=np.uint8)
        return Channel(codec, messages, own, frames)

    def codecs(self, columns: Columns) -> list[tuple[_bridge.Codec | None, int]]:
        """Returns the codec of each message, and how many columns it carries; the same list in every such round."""
        if columns not in self._codecs:
            found = {m: (ch.codec.core, len(ch.columns)) for ch in self.channels(columns) for m in ch.messages.tolist()}
            self._codecs[columns] = [found[message] for message in range(len(found))]
        return self._codecs[columns]

    def limit(self, columns: Columns) -> float:
        """Returns what all magnitudes of a message must be below."""
        return min(channel.codec.limit(len(channel.columns)) for channel in self.channels(columns))

    def encode(
        self, t: int, rows: Rows, columns: Columns, carried: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Returns the frames of round t for `rows [messages, columns]`, uint8 `[messages, width]`.

        Rows of messages that are sent from elsewhere are not read, and whatever is in their frames stays there.

        Args:
            t: Round, from 0.
            rows: float32.
            columns: Of the layout.
            carried: Which of them each message carries, uint8 `[messages, columns]`, as `MaskedCodec.encode_frames`
                takes it, where senders choose.

        Raises:
            CodecError: A number cannot be encoded.
        """
        channels = self.channels(columns)
        for channel in channels:
            if not channel.frames.flags.writeable:  # somebody still holds what was checked of it
                channel.frames = np.empty_like(channel.frames)
            for here in self._sent_of(channel):
                messages = channel.messages[here]
                whole = len(messages) == len(rows) and len(channel.columns) == rows.shape[1]
                index = ... if whole else np.ix_(messages, channel.columns)
                chosen = {} if carried is None else {"carried": carried[index]}
                said = {**self._said(t, channel), "senders": self._names["senders"][messages]}
                channel.codec.encode_frames(rows[index], channel.frames[here], seed=self._seed, **chosen, **said)
        most = self.width(columns)
        if len(channels) == 1 and channels[0].frames.shape[1] == most:
            return channels[0].frames
        frames = np.zeros((len(rows), most), dtype=np.uint8)
        for channel in channels:
            frames[channel.messages, : channel.frames.shape[1]] = channel.frames
        return frames

    def most_bytes(self, columns: Columns) -> NDArray[np.int64]:
        """Returns how many bytes each message has, header included, at most where that depends on it: `[messages]`."""
        sizes = np.empty(len(self._ranks), dtype=np.int64)
        for channel in self.channels(columns):
            sizes[channel.messages] = channel.frames.shape[1]
        return sizes

    def width(self, columns: Columns) -> int:
        """Returns how many bytes the longest message of the run has, header included, wherever its sender is."""
        if columns not in self._widths:
            others = [self._channel(columns, rank) for rank in self._elsewhere]
            self._widths[columns] = max(channel.frames.shape[1] for channel in (*self.channels(columns), *others))
        return self._widths[columns]

    def whole_bytes(self, columns: Columns) -> NDArray[np.int64]:
        """Returns how many bytes each message has, header included, that brings all its numbers in float32."""
        sizes = np.empty(len(self._ranks), dtype=np.int64)
        for channel in self.channels(columns):
            sizes[channel.messages] = _WHOLE.frame_bytes(len(channel.columns))
        return sizes

    def sizes(self, frames: NDArray[np.uint8], columns: Columns) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames` are the message, int64 `[messages]`; else 0."""
        sizes = np.zeros(len(frames), dtype=np.int64)
        for channel in self.channels(columns):
            for here in self._sent_of(channel):
                own = channel.of(frames)[here]
                sizes[channel.messages[here]] = channel.codec.frame_sizes(own, len(channel.columns))
        return sizes

    def check(self, t: int, frames: NDArray[np.uint8], columns: Columns) -> CheckedRound:
        """Returns the proof of which of `frames` are what they should be in round t."""
        parts = (
            (ch, ch.codec.check_frames(ch.of(frames), len(ch.columns), **self._said(t, ch)))
            for ch in self.channels(columns)
        )
        return CheckedRound(tuple(parts), columns.count)

    def _sent_of(self, channel: Channel) -> list[slice]:
        """Returns which messages of a channel are sent from here, as they follow each other in it."""
        edges = [np.searchsorted(channel.messages, [sent.start, sent.stop]).tolist() for sent in self._sent]
        return [slice(first, stop) for first, stop in edges if first < stop]

    def _said(self, t: int, channel: Channel) -> dict[str, Any]:
        """Returns what the headers of a channel say in round t, and what a receiver expects of them."""
        return {**self._names, "senders": self._names["senders"][channel.messages], "round": t}
