"""The codec of a run: a stateless core codec, and the memory that goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from declora import _bridge, seeds
from declora.codec.memory import MEMORIES, Memory, NoMemory
from declora.errors import CodecError, unknown_name

__all__ = ["CODECS", "Codec", "parse_codec"]

CODECS = (
    "none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "qsgd", "natural", "sign", "topk", "randk",
    "eden", "drive", "powersgd",
)  # fmt: skip


@dataclass(frozen=True)
class Codec:
    """What `codec="q4"`, `"topk:fraction=0.01+choco"` or `"q2:block=64,norm=l2+rans+ef"` stands for."""

    name: str
    core: _bridge.Codec
    memory: type[Memory]
    shapes: tuple[tuple[int, int], ...] = ()
    """The (rows, columns) of a message's matrices, where they are known."""

    @property
    def error(self) -> float:
        """E||z - x||^2 / ||x||^2 on standard normal numbers, measured, to two digits (the bound is for the worst x)."""
        return _normal_error(self.core)

    @property
    def contraction(self) -> float:
        """A of the contractive codec that a memory makes of it, E||z - x||^2 = (1 - a) ||x||^2 on normal numbers.

        One whose E<z, x> is ||x||^2, with an error of omega, becomes contractive by the factor 1 / (1 + omega): a.
        """
        return 1.0 / (1.0 + self.error) if self.core.keeps_product else 1.0 - self.error

    @property
    def shrink(self) -> float:
        """What a memory multiplies decoded values with: 1 / (1 + omega), 1 where the codec is contractive by itself."""
        return self.contraction if self.core.keeps_product else 1.0

    @property
    def default_gamma(self) -> float:
        """The consensus step size used where the config gives none, to two digits; see `Memory.gamma`.

        1 for none, fp16, bf16, q4 to q8 and eden of 3 bits and more. A codec that loses more has less, with a memory or
        without: natural .85, eden of 2 bits .78, q3 .73, qsgd .53, drive .41, q2 .17, randk .0025.
        """
        return float(f"{self.memory.gamma(self.contraction):.2g}")

    def __str__(self) -> str:
        """Every setting: two sites whose codecs have one text decode each other's bytes."""
        return str(self.core) if self.memory is NoMemory else f"{self.core}+{self.memory.name}"

    def for_shapes(self, shapes: Sequence[tuple[int, int]]) -> "Codec":
        """Returns the same codec for messages that are matrices of these (rows, columns), one after the other."""
        return replace(self, core=_core(str(self.core), shapes), shapes=tuple(shapes))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles by the settings: an object of the core has no bytes of its own."""
        return _rebuilt, (self.name, str(self.core), self.memory, self.shapes)

    def frame_bytes(self, columns: int) -> int:
        """Returns the exact size of one message, header and payload of `columns` values; `+rans` sends less."""
        return _bridge.HEADER_BYTES + self.core.payload_bytes(columns)


def parse_codec(text: str) -> Codec:
    """Returns the codec that `text` names: `NAME[:OPTION=VALUE,...][+rans][+ef|+ef21|+choco]`.

    Raises:
        ConfigError: Unknown codec, option, stage or memory; the message has the nearest match.
        CodecError: An option out of range, or a biased codec without a memory.
    """
    plain: str = text
    memory: type[Memory] = NoMemory
    head, plus, last = text.rpartition("+")
    if plus and last != "rans":
        if last not in MEMORIES:
            raise unknown_name("codec memory", last, [*MEMORIES, "rans"])
        plain, memory = head, MEMORIES[last]
    name = plain.partition(":")[0].partition("+")[0]
    if name[:1] == "q" and name[1:].lstrip("-").isdigit() and name not in CODECS:
        raise CodecError(f"codec={text!r}: {name[1:]} bits are outside 2..8. Use q2, q3, ... q8.")
    if not plain.isascii():  # no codec is called so, and half of a surrogate pair cannot be handed to the core
        raise unknown_name("codec", plain, CODECS)
    core = _bridge.Codec(plain)
    if core.needs_memory and memory is NoMemory:
        raise CodecError(
            f"codec={text!r} is biased: what it drops would be lost for good. Give it a memory: "
            f"{' or '.join(repr(f'{text}+{name}') for name in MEMORIES)}."
        )
    return Codec(text, core, memory)


def _core(text: str, shapes: Sequence[tuple[int, int]]) -> _bridge.Codec:
    return _bridge.Codec(text, shapes=shapes) if shapes else _bridge.Codec(text)


def _rebuilt(name: str, core: str, memory: type[Memory], shapes: tuple[tuple[int, int], ...]) -> Codec:
    return Codec(name, _core(core, shapes), memory, shapes)


@lru_cache
def _normal_error(core: _bridge.Codec) -> float:
    """Measures the relative squared error of `core` on standard normal numbers."""
    count = core.elements or 1 << 16
    draws = seeds.generator(0, "normal-error")
    payload, z = np.empty(core.payload_bytes(count), np.uint8), np.empty(count, np.float32)
    error = total = 0.0
    for t in range(4):
        x = draws.standard_normal(count, dtype=np.float32)
        used = core.encode(x, payload, seed=0, round=t, client=0)
        core.decode(payload[:used], z)
        error += float(np.square(z - x, dtype=np.float64).sum())
        total += float(np.square(x, dtype=np.float64).sum())
    # Two digits, so that the last bits of a sum, which depend on the machine, do not reach a run.
    return float(f"{error / total:.2g}")
