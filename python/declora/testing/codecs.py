"""Measures what a codec does to numbers: its size, its error, its bias, and whether it does the same thing twice."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from declora import _bridge, seeds
from declora.codec.custom import check_calls, not_bytes
from declora.codec.memory import MEMORIES
from declora.errors import ConfigError, ConformanceError, shown
from declora.kinds import Whole
from declora.spec import described
from declora.testing.inputs import INPUTS, LENGTH

__all__ = ["CodecLike", "CodecReport", "check_codec"]

_HEADER = _bridge.HEADER_BYTES
_ADAPTER = 74_498
"""Numbers of the adapter whose message is weighed: rank 8 on query and value of MiniLM, and its head."""
_ODD_LENGTHS = (1, 31, 257, 1000)
_MOST_DRAWS = 2**32 - 1
"""Draws are told apart by their round, which has 32 bits."""


@runtime_checkable
class CodecLike(Protocol):
    """Describes a codec from elsewhere: float32 `[n]` to bytes and back, every draw taken from (seed, round, client).

    A `declora.Codec` is one. What it says of itself is held to, where it says it:

    - `unbiased` (bool): whether the expectation of what is decoded is what was encoded. False by default of a
      `declora.Codec`; of another that does not say, it is taken to be true.
    - `payload_bytes(n)`: the size of the payload of n numbers in bytes; with `variable_length = True` the most it has.
    - `error_bound(n)`: the largest E||z - x||^2 / ||x||^2 of n numbers, over all x. No run needs it.
    """

    def encode(self, x: NDArray[np.float32], *, seed: int, round: int, client: int) -> bytes:
        """Returns the payload of `x`, float32 `[n]`."""

    def decode(self, payload: bytes, n: int) -> NDArray[np.float32]:
        """Returns the `n` values of a payload."""


@dataclass(frozen=True)
class CodecReport:
    """Holds what was measured of one codec, and what of it breaks a promise."""

    name: str
    unbiased: bool
    """As the codec says."""
    bits: float
    """Bits per number of a real message of 74,498 normal numbers, with its 96 bytes of header."""
    error: float
    """E||z - x||^2 / ||x||^2 on normal numbers."""
    worst_error: float
    """The largest such error over the inputs."""
    bound: float | None
    """The largest error over all x, as the codec says."""
    bias: float
    """The largest ||E z - x|| / ||x|| over the inputs, less what chance explains."""
    mean_drift: float
    """Largest change of the mean over clients in a round of gossip on the complete graph, float64, values about 1."""
    failures: list[str] = field(default_factory=list)
    """What was found wrong, in words."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Raises what was found wrong.

        Raises:
            ConformanceError: The codec breaks a promise.
        """
        if self.failures:
            raise ConformanceError(f"codec {self.name!r}: " + "; ".join(self.failures) + ".")


def check_codec(codec: "str | CodecLike", *, draws: int = 64, seed: int = 0) -> CodecReport:
    """Measures a codec and holds it to what it says of itself.

    It must be a function of (x, seed, round, client), give back as many finite numbers as it got, be as long as it
    says, have no more error than it says, no bias where it says so, and keep the mean over clients in the difference
    form of gossip (`x_i += sum_j w_ij (z_j - z_i)`).

    Args:
        codec: A codec's name (memories are not part of it), or an object with `encode` and `decode`.
        draws: Messages per input for error and bias, 2 or more; a bias of about sqrt(error / draws) is found, or of a
            third of that where many numbers share it.
        seed: Seed of inputs and draws, 0 to 2^64 - 1.

    Raises:
        ConfigError: An unknown name, an object that is no codec (a method takes not what it is called with, gives
            something else than bytes or float32 numbers, or states no number), or a number out of range.
    """
    draws = Whole(2, _MOST_DRAWS).check("draws", draws)
    seed = Whole(0, 2**64 - 1).check("seed", seed)
    subject = _subject(codec)
    failures = _check_lengths(subject, seed)
    errors, biases = {}, {}
    for name, make in INPUTS.items():
        x = make(seeds.generator(seed, "conformance", name))
        errors[name], biases[name], found = _measure(subject, x, draws, seed)
        failures += [f"{what} on {name} numbers" for what in found]
    failures += _check_determinism(subject, seed)
    worst = max(errors.values())
    # Chance: over the draws a mean error varies by at most sqrt((bound + 1) / draws) of itself; 4 of these.
    if subject.bound is not None and not subject.bound >= 0:
        failures.append(f"the stated bound {subject.bound:.3g} is none")
    elif subject.bound is not None and worst > subject.bound * (1 + 4 * np.sqrt((subject.bound + 1) / draws)) + 1e-9:
        failures.append(f"error {worst:.3g} is above the stated bound {subject.bound:.3g}")
    drift = _mean_drift(subject, seed) if np.isfinite(worst) else np.inf
    if drift > 1e-12:
        failures.append(f"the mean over clients moves by {drift:.1e}")
    message = _bits(subject, seed)
    return CodecReport(
        subject.name, subject.unbiased, message, errors["normal"], worst, subject.bound, max(biases.values()), drift,
        failures,
    )  # fmt: skip


@dataclass(frozen=True)
class _Subject:
    """Wraps a codec under test, whatever it came from."""

    name: str
    encode: Callable[[NDArray[np.float32], int, int, int], bytes]
    """Of (x, seed, round, client)."""
    decode: Callable[[bytes, int], NDArray[np.float32]]
    unbiased: bool
    bound: float | None
    size: Callable[[int], float] | None
    most: bool = False
    """Whether `size` is only the most that a message has."""


def _subject(codec: "str | CodecLike") -> _Subject:
    if isinstance(codec, str):
        return _ours(codec)
    if isinstance(codec, type) or not isinstance(codec, CodecLike):
        raise ConfigError(
            f"codec={codec!r} is no codec. Give a name such as 'q4', or an object (not its class) with "
            "encode(x, seed=, round=, client=) and decode(payload, n)."
        )
    name = type(codec).__name__
    check_calls(codec, name)

    def encode(x: NDArray[np.float32], seed: int, round: int, client: int) -> bytes:
        given = x.view()
        given.setflags(write=False)  # as in a run
        payload = codec.encode(given, seed=seed, round=round, client=client)
        if not isinstance(payload, bytes):
            raise ConfigError(f"codec={name}: {not_bytes(payload)}")
        return payload

    def decode(payload: bytes, n: int) -> NDArray[np.float32]:
        z = codec.decode(payload, n)
        if not isinstance(z, np.ndarray) or z.dtype != np.float32 or z.ndim != 1:
            raise ConfigError(f"codec={name}: decode gives {described(z)}; it must give an array, float32 [{n}].")
        return z

    def stated(method: str) -> Callable[[int], float] | None:
        states = getattr(codec, method, None)
        if states is None:
            return None

        def state(n: int) -> float:
            value = states(n)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise ConfigError(f"codec={name}: {method}({n}) gives {shown(value)}; it must give a number.")
            return float(value)

        return state

    bound = stated("error_bound")
    return _Subject(
        name=name,
        encode=encode,
        decode=decode,
        unbiased=bool(getattr(codec, "unbiased", True)),
        bound=None if bound is None else bound(LENGTH),
        size=stated("payload_bytes"),
        most=bool(getattr(codec, "variable_length", False)),
    )


def _ours(name: str) -> _Subject:
    plain, _, memory = name.rpartition("+")
    if memory in MEMORIES:
        raise ConfigError(f"codec={name!r}: what is measured has no memory; give {plain!r}.")

    def core(n: int) -> _bridge.Codec:
        # Matrices as adapters have them: eight rows, and a vector for the rest.
        return _bridge.Codec(name, shapes=[(8, n // 8), (1, n % 8)])

    def encode(x: NDArray[np.float32], seed: int, round: int, client: int) -> bytes:
        out = np.empty(core(len(x)).payload_bytes(len(x)), np.uint8)
        used = core(len(x)).encode(np.ascontiguousarray(x), out, seed=seed, round=round, client=client)
        return out[:used].tobytes()

    def decode(payload: bytes, n: int) -> NDArray[np.float32]:
        z = np.empty(n, np.float32)
        core(n).decode(np.frombuffer(payload, np.uint8), z)
        return z

    one = core(LENGTH)
    return _Subject(
        name, encode, decode, one.unbiased, one.error_bound(LENGTH), lambda n: core(n).payload_bytes(n),
        one.variable_length,
    )  # fmt: skip


def _measure(subject: _Subject, x: NDArray[np.float32], draws: int, seed: int) -> tuple[float, float, list[str]]:
    """Returns relative error, relative bias and what is wrong, on one input."""
    wide = x.astype(np.float64)
    norm = float(wide @ wide)
    total, squares = np.zeros(len(x)), np.zeros(len(x))
    for t in range(draws):
        z = subject.decode(subject.encode(x, seed, t, 0), len(x))
        if z.shape != x.shape or not np.isfinite(z).all():
            return np.inf, np.inf, [f"decoding gives {z.shape} numbers, finite: {np.isfinite(z).all()},"]
        difference = z - wide
        total += difference
        squares += difference**2
    if norm == 0.0:
        return 0.0, 0.0, ["zeros do not stay zeros"] if squares.any() else []
    error, mean = float(squares.sum()) / draws, total / draws
    bias = float(mean @ mean)
    # Without bias, ||mean||^2 is error / draws, up to a relative deviation of about sqrt(3 / m), where m numbers share
    # the error. 6 of these; and rounding: 2^-17 of a step, 2^-24 of a value.
    effective = float(squares.sum()) ** 2 / max(float((squares**2).sum()), 1e-300)
    chance = error / draws * (1 + 6 * np.sqrt(3 / max(effective, 1.0)))
    excess = max(bias - error / draws, 0.0)
    biased = bias > chance + 2.0**-32 * norm
    found = [f"bias {np.sqrt(excess / norm):.2g} of ||x||"] if biased and subject.unbiased else []
    return error / norm, float(np.sqrt(excess / norm)) if biased else 0.0, found


def _check_lengths(subject: _Subject, seed: int) -> list[str]:
    """Checks that sizes are what is stated, for odd lengths, too."""
    found = []
    for n in (*_ODD_LENGTHS, LENGTH):
        x = seeds.generator(seed, "conformance", "length").standard_normal(n, dtype=np.float32)
        payload = subject.encode(x, seed, 0, 0)
        if len(subject.decode(payload, n)) != n:
            found.append(f"{n} numbers do not come back as {n}")
        stated = subject.size(n) if subject.size else len(payload)
        if len(payload) != stated and not (subject.most and len(payload) < stated):
            found.append(f"{n} numbers take {len(payload)} bytes instead of the {stated:.0f} stated")
    return found


def _check_determinism(subject: _Subject, seed: int) -> list[str]:
    """Checks that bytes are a function of (x, seed, round, client): order of calls and threads change nothing."""
    x = seeds.generator(seed, "conformance", "determinism").standard_normal(20_000, dtype=np.float32)
    calls = [(seed, round, client) for round in (0, 1) for client in (0, 7)]
    first = {call: subject.encode(x, *call) for call in calls}
    before = _bridge.threads()
    _bridge.set_threads(1)
    try:
        again = {call: subject.encode(x, *call) for call in reversed(calls)}
    finally:
        _bridge.set_threads(before)
    return [] if first == again else ["the same seed, round and client give other bytes"]


def _mean_drift(subject: _Subject, seed: int) -> float:
    """Returns the largest change of the mean over clients in one round on the complete graph, in float64."""
    clients = 8
    x = seeds.generator(seed, "conformance", "mean").standard_normal((clients, 2048))
    z = [subject.decode(subject.encode(row.astype(np.float32), seed, 0, i), 2048) for i, row in enumerate(x)]
    mixed = x.copy()
    weights = np.full((clients, clients), 1.0 / clients)
    indptr, indices = np.arange(clients + 1) * clients, np.tile(np.arange(clients), clients)
    matrix = _bridge.MixingMatrix(indptr, indices, weights.ravel())
    matrix.mix(np.stack(z).astype(np.float64), mixed, 1.0)
    return float(np.abs(mixed.mean(0) - x.mean(0)).max())


def _bits(subject: _Subject, seed: int) -> float:
    x = seeds.generator(seed, "conformance", "bits").standard_normal(_ADAPTER, dtype=np.float32)
    return 8.0 * (_HEADER + len(subject.encode(x, seed, 0, 0))) / _ADAPTER
