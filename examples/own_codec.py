"""A codec of your own, held to its word and then used: 8 bits a number, rounded up or down at random."""

import argparse

import numpy as np
from numpy.typing import NDArray

import declora
from declora import testing


class Int8(declora.Codec):
    """One scale for all numbers, and each as a multiple of it in -127..127."""

    unbiased = True  # the expectation of what is decoded is what was encoded, so no memory is needed

    def payload_bytes(self, n: int) -> int:
        return 4 + n

    def encode(self, x: NDArray[np.float32], *, seed: int, round: int, client: int) -> bytes:
        rng = np.random.default_rng([seed, round, client])  # a function of these three and of nothing else
        scale = np.abs(x).max() / np.float32(127)
        steps = np.floor(x / max(scale, np.float32(1e-30)) + rng.random(len(x), dtype=np.float32))
        return scale.tobytes() + np.clip(steps, -127, 127).astype(np.int8).tobytes()

    def decode(self, payload: bytes, n: int) -> NDArray[np.float32]:
        scale = np.frombuffer(payload, np.float32, count=1)[0]
        if not 0 <= scale < 1e30:  # bytes may be anybody's
            raise declora.FrameError("payload: the scale is not a number from 0 to 1e30.")
        return scale * np.frombuffer(payload, np.int8, offset=4).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="stdlib-docstrings")
    parser.add_argument("--model", default="minilm", help="hub id or path of a model")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()

    testing.check_codec(Int8()).raise_if_failed()
    runs = {"float32": {"codec": "none"}, "q8": {"codec": "q8"}, "own": {"codec": Int8()}}
    print(declora.simulate(model=options.model, data=options.data, rounds=options.rounds, compare=runs))


if __name__ == "__main__":
    main()
