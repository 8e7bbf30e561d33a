"""Derives named seeds: every random choice of a run is a function of (run seed, what it is for).

No global generator is ever drawn from (`process.seeded` is for libraries that do), so a choice does not depend on the
order in which choices are made.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["derive", "generator", "generators"]


def derive(seed: int, *labels: str | int) -> int:
    """Returns a 64-bit seed for one purpose, e.g. `derive(seed, "order", client, epoch)`.

    Different labels give independent seeds (BLAKE2b of the seed and the labels); the same ones, the same seed
    on every machine.
    """
    text = "\x1f".join([str(int(seed)), *(str(label) for label in labels)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """Returns a numpy generator (Philox) seeded by `derive(seed, *labels)`."""
    return np.random.Generator(np.random.Philox(derive(seed, *labels)))


def generators(derived: Iterable[int]) -> Iterator[np.random.Generator]:
    """Yields, for each seed that `derive` returned, what `generator` returns of the same labels: one object, set anew.

    So each must be drawn from before the next one is asked for. A generator of its own takes numpy longer to make than
    to shuffle the few samples of a client.
    """
    philox = np.random.Philox(0)
    state, found = philox.state, np.random.Generator(philox)
    for key in _philox_keys(np.fromiter(derived, dtype=np.uint64)):
        state["state"]["key"] = key
        philox.state = state
        yield found


def _philox_keys(derived: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns the keys, uint64 `[n, 2]`, that numpy's `Philox(seed)` has: those of its `SeedSequence(seed)`, for all.

    numpy promises that the streams of a seed stay what they are, and so this, which is O'Neill's `seed_seq_fe128`.
    """
    multiplier = _Multiplier(0x43B0D7E5, 0x931E8875)
    low, high = derived.astype(np.uint32), (derived >> np.uint64(32)).astype(np.uint32)
    pool = [multiplier.hashed(word) for word in (low, high, np.zeros_like(low), np.zeros_like(low))]
    for source in range(4):
        for target in range(4):
            if source != target:
                mixed = pool[target] * _MIX_LEFT - multiplier.hashed(pool[source]) * _MIX_RIGHT
                pool[target] = mixed ^ (mixed >> _SHIFT)
    multiplier = _Multiplier(0x8B51F9DD, 0x58F38DED)
    words = [multiplier.hashed(word).astype(np.uint64) for word in pool]
    return np.stack([words[0] | words[1] << np.uint64(32), words[2] | words[3] << np.uint64(32)], axis=1)


_MIX_LEFT, _MIX_RIGHT, _SHIFT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)


class _Multiplier:
    """The constant of a hash of 32 bits, which is another one at each use."""

    def __init__(self, first: int, factor: int) -> None:
        self._now, self._factor = first, factor

    def hashed(self, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Returns the hashes of `words`, uint32 like them."""
        before, self._now = self._now, self._now * self._factor % 2**32
        found: NDArray[np.uint32] = (words ^ np.uint32(before)) * np.uint32(self._now)
        return found ^ (found >> _SHIFT)
