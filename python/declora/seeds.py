"""Derives named seeds: every random choice of a run is a function of (run seed, what it is for).

No global generator is ever drawn from (`process.seeded` is for libraries that do), so a choice does not depend on the
order in which choices are made.
"""

import hashlib

import numpy as np

__all__ = ["derive", "generator"]


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
