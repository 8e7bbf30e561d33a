"""Gossip on a GPU against a copy of the adapters there: rates of encode, decode and mix, for other benches to call.

`python benches/card.py` prints a table. The share is the time of a device copy of as many bytes over the time taken: 1
is as fast as memory. Bytes are those that must be moved: of encoding, x and the payloads; of mixing, each payload once,
x in and x out (a payload that several rows read comes from the cache); of both, the sum.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from declora import cuda
from declora.codec import parse_codec
from declora.topology import Topology

CODECS = ("none", "bf16", "q2", "q3", "q4", "q8", "qsgd")
REPEATS = 20


@dataclass(frozen=True)
class Rates:
    """Seconds of one round of all clients, and shares of a copy."""

    copy: float
    """Of a matrix as large as P to another one."""
    encode: float
    decode: float
    mix: float
    """Decoding and mixing in one pass."""
    distance: float
    """Of the consensus distance, with what the CPU adds."""
    share: float
    """Of a copy: encoding and mixing together."""


def rates(codec: str, *, clients: int, columns: int, topology: str = "ring", device: str = "cuda:0") -> Rates:
    """Measures the gossip of `clients` adapters of `columns` numbers on a GPU, float32 around 0.01."""
    card = torch.device(device)
    x = 0.01 * torch.randn(clients, columns, device=card, generator=torch.Generator(card).manual_seed(0))
    other, found = torch.empty_like(x), cuda.Codec.of(parse_codec(codec).plain)
    if found is None:
        raise SystemExit(f"codec={codec!r} has no kernel; {', '.join(CODECS)} have")
    weights = Topology.build(topology, clients, seed=0).weights(0)
    matrix = cuda.MixingMatrix(weights.indptr, weights.indices, weights.data, clients, device=card)
    senders = torch.arange(clients, dtype=torch.int32, device=card)
    payloads = found.encode(x, seed=1, round=0, senders=senders)
    copy = seconds(lambda: other.copy_(x), card)
    encode = seconds(lambda: found.encode(x, seed=1, round=0, senders=senders), card)
    mix = seconds(lambda: matrix.mix_frames(payloads, x, 1.0), card)
    moved = 12 * x.numel() + 2 * clients * found.payload_bytes(columns)
    return Rates(
        copy,
        encode,
        decode=seconds(lambda: payloads.decode(other), card),
        mix=mix,
        distance=seconds(lambda: cuda.consensus_distance(x), card),
        share=moved / (8 * x.numel()) * copy / (encode + mix),
    )


def seconds(call: Callable[[], object], card: torch.device) -> float:
    """Returns the median time of a call as the GPU measures it, after one call that compiles."""
    call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(torch.cuda.current_stream(card))
        call()
        end.record(torch.cuda.current_stream(card))
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--columns", type=int, default=591_362, help="of an adapter")
    parser.add_argument("--topology", default="ring")
    options = parser.parse_args()
    print(f"{'codec':8} {'copy':>8} {'encode':>8} {'decode':>8} {'mix':>8} {'distance':>8}  ms; share of a copy")
    for codec in CODECS:
        found = rates(codec, clients=options.clients, columns=options.columns, topology=options.topology)
        times = (found.copy, found.encode, found.decode, found.mix, found.distance)
        print(f"{codec:8} {' '.join(f'{1e3 * time:8.3f}' for time in times)}  {found.share:.2f}")


if __name__ == "__main__":
    main()
