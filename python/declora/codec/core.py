"""The codecs of the Rust core, each with the memory that goes with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import _bridge
from declora.codec.base import RunCodec
from declora.codec.checked import CoreFrames
from declora.codec.memory import Memory, NoMemory
from declora.plan import Rows

__all__ = ["CoreCodec"]

_WIDTHS = (4, 8)
"""Bits of a number, of the codecs that are finer than one of fewer."""


@dataclass(frozen=True)
class CoreCodec(RunCodec):
    """What `codec="q4"`, `"topk:fraction=0.01+choco"` or `"q2:block=64,norm=l2+rans+ef"` stands for."""

    text: str
    core: _bridge.Codec
    memory: type[Memory] = NoMemory
    shapes: tuple[tuple[int, int], ...] = ()
    """The (rows, columns) of a message's matrices, where they are known."""
    finer: tuple[RunCodec, ...] = ()

    @property
    def name(self) -> str:
        """As the settings have it."""
        return self.text

    @property
    def plain(self) -> str:
        """The codec with all its options, without its memory."""
        return str(self.core)

    @property
    def keeps_product(self) -> bool:
        """Whether E<z, x> is ||x||^2 for the decoded z."""
        return self.core.keeps_product

    @property
    def needs_memory(self) -> bool:
        """Whether it may be used only with a memory (sign, topk, powersgd)."""
        return self.core.needs_memory

    @property
    def variable_length(self) -> bool:
        """Whether payloads are shortened: `+rans`."""
        return self.core.variable_length

    @property
    def error(self) -> float:
        """E||z - x||^2 / ||x||^2 on standard normal numbers, measured, to two digits."""
        return _error_of(self.core)

    def limit(self, n: int) -> float:
        """Returns the magnitude below which numbers can be encoded in a message of `n`; infinity where all are."""
        return self.core.limit(n)

    def payload_bytes(self, n: int) -> int:
        """Returns the size in bytes of the payload of `n` numbers; with `+rans` the most that it has."""
        return self.core.payload_bytes(n)

    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of `x`, float32 `[n]`."""
        out = np.empty(self.core.payload_bytes(len(x)), dtype=np.uint8)
        used = self.core.encode(x, out, seed=seed, round=round, client=client)
        return out[:used].tobytes()

    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the `n` numbers of a payload.

        Raises:
            FrameError: No encoder writes these bytes.
        """
        z = np.empty(n, dtype=np.float32)
        self.core.decode(np.frombuffer(payload, dtype=np.uint8), z)
        return z

    def encode_frames(self, x: Rows, out: NDArray[np.uint8], *, seed: int, **names: Any) -> None:
        """Encodes row i of `x [N, D]` into frame i of `out`, on all threads."""
        _bridge.encode_frames(self.core, x, out, seed=seed, **names)

    def frame_sizes(self, frames: NDArray[np.uint8], d: int) -> NDArray[np.int64]:
        """Returns how many bytes of each row of `frames` are its message, int64 `[N]`: fewer with `+rans`."""
        return _bridge.frame_bytes(self.core, frames, d)

    def check_frames(self, frames: NDArray[np.uint8], d: int, **names: Any) -> CoreFrames:
        """Checks whether row i of `frames`, uint8 `[N, bytes]`, is the message that is expected, on all threads."""
        return CoreFrames(_bridge.check_frames(self.core, frames, d, partial=True, **names))

    def for_shapes(self, shapes: Sequence[tuple[int, int]]) -> "CoreCodec":
        """Returns the same codec for messages that are matrices of these (rows, columns), one after the other."""
        return replace(self, core=_core(self.plain, shapes), shapes=tuple(shapes))

    def graded(self) -> "CoreCodec":
        """Returns the codec with those of 4 and 8 bits beside it, as far as they are finer, of q2 to q7."""
        bits = re.match(r"q(\d):", self.plain)
        if bits is None or self.variable_length:
            return self
        options = self.plain[bits.end() :]
        finer = [f"q{more}:{options}" for more in _WIDTHS if more > int(bits[1])]
        return replace(self, finer=tuple(CoreCodec(text, _bridge.Codec(text)) for text in finer))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles by the settings: an object of the core has no bytes of its own."""
        return _rebuilt, (self.text, self.plain, self.memory, self.shapes, self.finer)


def _core(text: str, shapes: Sequence[tuple[int, int]]) -> _bridge.Codec:
    return _bridge.Codec(text, shapes=shapes) if shapes else _bridge.Codec(text)


def _rebuilt(
    text: str, core: str, memory: type[Memory], shapes: tuple[tuple[int, int], ...], finer: tuple[RunCodec, ...]
) -> CoreCodec:
    return CoreCodec(text, _core(core, shapes), memory, shapes, finer)


@lru_cache
def _error_of(core: _bridge.Codec) -> float:
    codec = CoreCodec("", core)
    return codec.measured_error() if core.elements is None else codec.measured_error(core.elements)
