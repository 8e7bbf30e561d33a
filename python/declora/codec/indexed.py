"""Rows of pairs: whole numbers, which no codec may touch, and the numbers that belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from declora.codec.base import RunCodec
from declora.codec.memory import Memory
from declora.codec.one_by_one import OneByOne
from declora.errors import FrameError
from declora.plan import Rows

__all__ = ["IndexedCodec"]

_MOST = 3
"""Bytes of a whole number: float32, which rows are in, has all below 2^24."""


@dataclass(frozen=True)
class IndexedCodec(OneByOne):
    """A codec of the second half of a row; the first half are whole numbers, which arrive as they are.

    A payload is a byte that says how many bytes a whole number has, 1 to 3, as few as the largest needs; then all whole
    numbers, the lowest byte first; then what the codec makes of the others. What is no whole number below 2^24, as what
    a liar sends, goes as the nearest that is.

    Args:
        codec: Of the numbers. It remembers nothing, since they belong to others in each round.
    """

    codec: RunCodec
    core = None

    @property
    def memory(self) -> type[Memory]:  # type: ignore[override]
        """That of the codec."""
        return self.codec.memory

    @property
    def name(self) -> str:
        """As the settings have the codec."""
        return self.codec.name

    @property
    def plain(self) -> str:
        """The codec with all its options."""
        return self.codec.plain

    @property
    def needs_memory(self) -> bool:
        """Whether the codec does."""
        return self.codec.needs_memory

    @property
    def keeps_product(self) -> bool:
        """Whether the codec does."""
        return self.codec.keeps_product

    @property
    def variable_length(self) -> bool:
        """Whole numbers may be smaller than they can be."""
        return True

    @property
    def error(self) -> float:
        """That of the codec."""
        return self.codec.error

    def limit(self, n: int) -> float:
        """Returns that of the codec, and the largest whole number."""
        return min(self.codec.limit(n // 2), 2.0 ** (8 * _MOST))

    def payload_bytes(self, n: int) -> int:
        """Returns the size in bytes of the payload of `n` numbers, the most that it has."""
        return 1 + _MOST * (n // 2) + self.codec.payload_bytes(n - n // 2)

    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of `x`, float32 `[n]`."""
        count = len(x) // 2
        whole = np.rint(x[:count]).clip(0, 2 ** (8 * _MOST) - 1).astype("<u4")
        width = max(1, -(-int(whole.max(initial=0)).bit_length() // 8))
        indices = whole[:, None].view(np.uint8)[:, :width].tobytes()
        values = np.ascontiguousarray(x[count:])
        return bytes([width]) + indices + self.codec.encode(values, seed=seed, round=round, client=client)

    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the `n` numbers of a payload.

        Raises:
            FrameError: No encoder writes these bytes.
        """
        count, width = n // 2, payload[0] if payload else 0
        if not 1 <= width <= _MOST or len(payload) < 1 + width * count:
            raise FrameError(f"payload: {count} whole numbers of {width} bytes are not in its {len(payload)} bytes.")
        whole = np.zeros((count, 4), dtype=np.uint8)
        whole[:, :width] = np.frombuffer(payload, dtype=np.uint8)[1 : 1 + width * count].reshape(count, width)
        values = self.codec.decode(payload[1 + width * count :], n - count)
        return np.concatenate([whole.view("<u4")[:, 0].astype(np.float32), values])

    def for_shapes(self, shapes: Sequence[tuple[int, int]]) -> "IndexedCodec":
        """Returns the same codec for rows of these matrices, the second half of which the numbers are."""
        return replace(self, codec=self.codec.for_shapes(shapes[len(shapes) // 2 :]))
