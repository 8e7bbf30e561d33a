"""Codecs that users write in Python."""

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from declora.codec.memory import Memory
from declora.codec.one_by_one import OneByOne
from declora.errors import CodecError, ConfigError, FrameError
from declora.plan import Rows
from declora.spec import described, spelled

__all__ = ["Codec", "CustomCodec", "check_calls", "not_bytes"]


class Codec(ABC):
    """How a row of float32 numbers becomes the bytes of a message and back: derive from it, and define three methods.

    An object goes to `simulate(codec=...)`. Its payloads travel in the same frames as all others, with header and
    checksums, and their bytes are counted exactly. `declora.testing.check_codec` measures whether it does what it says.
    """

    unbiased: bool = False
    """Whether the expectation of what is decoded is what was encoded. What a biased codec drops would be lost for good
    without a memory, so it needs one."""
    variable_length: bool = False
    """Whether a payload may be shorter than `payload_bytes` says."""
    memory: str = "none"
    """What is remembered between rounds: none, choco or ef21 (public copies), or ef (error feedback)."""

    @abstractmethod
    def payload_bytes(self, n: int) -> int:
        """Returns the size in bytes of the payload of `n` numbers; the most that it has, of `variable_length`."""

    @abstractmethod
    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of one message.

        Every draw is to be made from (seed, round, client), e.g. by `numpy.random.default_rng([seed, round, client])`,
        so that a run can be repeated.

        Args:
            x: float32 `[n]`, finite, read-only.
            seed: Below 2^64.
            round: From 0.
            client: The sender, from 0.
        """

    @abstractmethod
    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the `n` numbers of a payload, float32, all finite.

        Raises:
            declora.FrameError: `encode` never writes these bytes. The message is then refused, as one is whose numbers
                are not finite. Any other exception ends the run as it is.
        """

    def limit(self, n: int) -> float:
        """Returns the magnitude below which numbers can be encoded in a message of `n`; infinity where all are."""
        return math.inf

    def __str__(self) -> str:
        """The class with its options."""
        return spelled(self)


_NUMBERS = np.zeros(1, np.float32)
_CALLS: tuple[tuple[str, str, tuple[object, ...], dict[str, int]], ...] = (
    ("encode", "encode(x, seed=, round=, client=)", (_NUMBERS,), {"seed": 0, "round": 0, "client": 0}),
    ("decode", "decode(payload, n)", (b"", 1), {}),
    ("payload_bytes", "payload_bytes(n)", (1,), {}),
    ("error_bound", "error_bound(n)", (1,), {}),
)
"""How methods of a codec are called."""


def check_calls(codec: object, name: str) -> None:
    """Checks that the methods of a user's codec take what they are called with; calls none.

    Args:
        codec: The codec.
        name: How errors call it.

    Raises:
        ConfigError: One does not: without seed, say, it would draw what nobody could draw again.
    """
    for method, form, given, named in _CALLS:
        called = getattr(codec, method, None)
        if called is None:
            continue
        if not callable(called):
            raise ConfigError(f"codec={name}: {method} is called as {form}, but it is {described(called)}.")
        try:
            signature = inspect.signature(called)
        except (TypeError, ValueError):  # one that is not written in Python
            continue
        try:
            signature.bind(*given, **named)
        except TypeError as error:
            why = " All draws are to be made from seed, round and client." if named else ""
            raise ConfigError(f"codec={name}: {method} is called as {form}, but {error}.{why}") from None


def not_bytes(payload: object) -> str:
    """Returns what is wrong with what `encode` gave in the place of bytes, in words."""
    hint = " Give payload.tobytes()." if isinstance(payload, np.ndarray) else ""
    return f"encode gives {described(payload)}; it must give bytes.{hint}"


@dataclass(eq=False)
class CustomCodec(OneByOne):
    """A user's codec in a run: what it gives is checked, and put into frames."""

    codec: Codec
    memory: type[Memory]
    core = None

    @property
    def plain(self) -> str:
        """The class with its options."""
        return spelled(self.codec)

    @property
    def name(self) -> str:
        """The same, with the memory."""
        return str(self)

    @property
    def needs_memory(self) -> bool:
        """Whether it is biased."""
        return not self.codec.unbiased

    @property
    def keeps_product(self) -> bool:
        """Whether it is unbiased."""
        return self.codec.unbiased

    @property
    def variable_length(self) -> bool:
        """Whether a payload may be shorter than the codec says."""
        return self.codec.variable_length

    @cached_property
    def error(self) -> float:
        """E||z - x||^2 / ||x||^2 on standard normal numbers, measured, to two digits."""
        return self.measured_error()

    def limit(self, n: int) -> float:
        """Returns what the codec says.

        Raises:
            CodecError: It is no number above 0.
        """
        limit = self.codec.limit(n)
        if not isinstance(limit, int | float | np.number) or not limit > 0:
            raise CodecError(f"codec={self.plain!r}: limit({n}) gives {limit!r}; it must give a number above 0.")
        return float(limit)

    def payload_bytes(self, n: int) -> int:
        """Returns what the codec says.

        Raises:
            CodecError: It is no size.
        """
        count = self.codec.payload_bytes(n)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 <= count < 2**40:
            raise CodecError(
                f"codec={self.plain!r}: payload_bytes({n}) gives {count!r}; it must give a number of bytes."
            )
        return int(count)

    def encode(self, x: Rows, *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of `x`, float32 `[n]`.

        Raises:
            CodecError: It is not what the codec says.
        """
        given = x.view()
        given.flags.writeable = False
        payload = self.codec.encode(given, seed=seed, round=round, client=client)
        if not isinstance(payload, bytes):
            raise CodecError(f"codec={self.plain!r}: {not_bytes(payload)}")
        if wrong := self._wrong_size(len(payload), len(x)):
            raise CodecError(f"codec={self.plain!r}: encode gives {wrong}")
        return payload

    def decode(self, payload: bytes, n: int) -> Rows:
        """Returns the `n` numbers of a payload.

        Raises:
            FrameError: The bytes are refused.
            CodecError: The codec gives something else than numbers.
        """
        if wrong := self._wrong_size(len(payload), n):
            raise FrameError(f"payload: it has {wrong}")
        z = self.codec.decode(payload, n)
        if not isinstance(z, np.ndarray) or z.dtype != np.float32 or z.shape != (n,):
            raise CodecError(
                f"codec={self.plain!r}: decode gives {described(z)}; it must give an array, float32 [{n}]."
            )
        if not np.isfinite(z).all():
            raise FrameError(f"payload: number {int(np.argmin(np.isfinite(z)))} is not finite.")
        return z

    def _wrong_size(self, have: int, n: int) -> str:
        """Returns what is wrong with a payload of `n` numbers in `have` bytes, in words; nothing where it may be."""
        need = self.payload_bytes(n)
        if have == need or (have < need and self.codec.variable_length):
            return ""
        hint = " Say variable_length = True where it may have fewer." if have < need else ""
        return f"{have} bytes for {n} numbers, but payload_bytes({n}) is {need}.{hint}"
