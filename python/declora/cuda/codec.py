"""Codecs whose payloads are made on a GPU: `none`, `fp16`, `bf16`, `q2` to `q8`, `qsgd`."""

import re
from dataclasses import dataclass

import torch

from declora.cuda.launch import check_rows, launch, tiles_for

__all__ = ["Codec", "Payloads", "signed"]

_CHUNKS = 16
"""Of 128 numbers, for one program of the quantizer."""
_TILE = 1024
"""Numbers for one program of the others."""
_FLOATS = {
    "none": (torch.float32, 0x7F800000),
    "fp16": (torch.float16, 0x477FF000),  # 65520 would round to infinity
    "bf16": (torch.int16, 0x7F7F8000),
}
"""What a number becomes, and the limit of its magnitude as bits of a float32."""


@dataclass(frozen=True)
class Codec:
    """A codec of the core without an entropy stage, as kernels take it.

    The payload of n numbers is what the core's `Codec` of the same text makes of them, byte for byte.
    """

    number: torch.dtype
    """What `Payloads.words` are: the numbers themselves, bfloat16 as its bits, or the words of a quantizer."""
    limit: int = 0
    """What magnitudes are below, as bits of a float32; of numbers that are only rounded."""
    levels: int = 0
    """L of a quantizer, 0 where there is none."""
    block: int = 32
    """Numbers that share a scale."""
    euclidean: bool = False
    """Whether the scale is the Euclidean norm, not the largest magnitude."""

    @classmethod
    def of(cls, text: str) -> "Codec | None":
        """Returns the codec of the core that this is the full text of; None where it has no kernel."""
        if text in _FLOATS:
            number, limit = _FLOATS[text]
            return cls(number, limit)
        found = re.fullmatch(r"(?:q(?P<bits>[2-8])|qsgd):(?:levels=(\d+),)?block=(\d+),norm=(max|l2)", text)
        if found is None:
            return None
        bits, levels, block, norm = found.groups()
        return cls(torch.int32, 0, int(levels or 2 ** (int(bits) - 1) - 1), int(block), norm == "l2")

    @property
    def bits(self) -> int:
        """Of a code: enough for the 2 L + 1 codes; 0 where there are none."""
        return (2 * self.levels).bit_length()

    def payload_bytes(self, n: int) -> int:
        """Returns the size of the payload of `n` numbers."""
        if not self.levels:
            return n * self.number.itemsize
        return tiles_for(n, self.block) * 4 + tiles_for(n * self.bits, 8)

    @property
    def constants(self) -> dict[str, int]:
        """What the kernels that decode are compiled for."""
        span = min(256, self.block & -self.block) if self.levels else 256
        return {
            "BITS": self.bits,
            "LEVELS": self.levels,
            "BLOCK": self.block,
            "SPANS": _TILE // span,
            "SPAN": span,
        }

    def encode(self, x: torch.Tensor, *, seed: int, round: int, senders: torch.Tensor) -> "Payloads":
        """Returns the payloads of the rows of `x`.

        Args:
            x: float32 `[N, D]`, its rows contiguous.
            seed: Of the codec's random streams, below 2^64.
            round: Below 2^32.
            senders: int32 or uint32 `[N]`, the client of each row.

        Raises:
            ConfigError: `x` is something else.
        """
        rows, columns = len(senders), x.shape[-1]
        check_rows("x", x, (rows, columns), senders.device)
        bad = torch.zeros(1, dtype=torch.int32, device=x.device)
        # Rows begin at multiples of 64 bytes, so that they can be read and written as words, several at a time.
        steps = 4 * tiles_for(columns, self.block) if self.levels else 0
        pitch = tiles_for(self.payload_bytes(columns) + steps + 3, 64) * 64 // self.number.itemsize
        words = torch.empty(rows, pitch, dtype=self.number, device=x.device)
        if self.levels:
            self._quantize(x, words, bad, seed, round, senders)
        else:
            from declora.cuda.kernels import floats

            tiles = tiles_for(columns, _TILE)
            launch(
                floats.encode, rows * tiles, x, x.stride(0), words, words.stride(0), bad, columns, tiles,
                LIMIT=self.limit, TILE=_TILE,
            )  # fmt: skip
        return Payloads(self, words, columns, bad)

    def _quantize(
        self, x: torch.Tensor, words: torch.Tensor, bad: torch.Tensor, seed: int, round: int, senders: torch.Tensor
    ) -> None:
        from declora.cuda.kernels import quantizer

        rows, columns = x.shape
        whole_chunks = self.block in (128 << power for power in range(_CHUNKS.bit_length()))
        scaled = self.euclidean or not whole_chunks
        if scaled:
            blocks = 32 if self.block <= 1024 else 1
            tiles = tiles_for(columns, self.block * blocks)
            launch(
                quantizer.scales, rows * tiles, x, x.stride(0), words, words.stride(0), bad, columns, tiles,
                LEVELS=self.levels, BLOCK=self.block, EUCLIDEAN=self.euclidean, BLOCKS=blocks,
            )  # fmt: skip
        tiles = tiles_for(columns, _CHUNKS * 128)
        launch(
            quantizer.encode, rows * tiles, x, x.stride(0), words, words.stride(0), senders.view(torch.int32), bad,
            columns, tiles, signed(seed), signed(seed >> 32), signed(round),
            BITS=self.bits, LEVELS=self.levels, BLOCK=self.block, CHUNKS=_CHUNKS, SCALED=scaled, num_warps=2,
        )  # fmt: skip


@dataclass(frozen=True)
class Payloads:
    """The payloads of N rows of D numbers, on a GPU."""

    codec: Codec
    words: torch.Tensor
    """`[N, words]`: the payloads, and what kernels put behind them."""
    columns: int
    """D."""
    bad: torch.Tensor
    """int32 `[1]`: 1 where a number of some row cannot be encoded; then the payloads mean nothing."""

    @property
    def bytes(self) -> torch.Tensor:
        """uint8 `[N, payload_bytes(D)]`, a view."""
        return self.words.view(torch.uint8)[:, : self.codec.payload_bytes(self.columns)]

    def decode(self, out: torch.Tensor) -> None:
        """Writes what they hold to `out`, float32 `[N, D]`, its rows contiguous.

        Raises:
            ConfigError: `out` is something else.
        """
        from declora.cuda.kernels import mixing

        check_rows("out", out, (len(self.words), self.columns), self.words.device)
        tiles = tiles_for(self.columns, _TILE)
        launch(
            mixing.decode, len(out) * tiles, self.words, self.words.stride(0), out, out.stride(0), self.columns, tiles,
            **self.codec.constants,
        )  # fmt: skip


def signed(word: int) -> int:
    """Returns the low 32 bits as a signed number: whatever they are, a kernel is compiled for one type."""
    return ((word + 2**31) & 0xFFFFFFFF) - 2**31
