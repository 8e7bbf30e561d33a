"""Which consensus step size suits a codec and its memory: gossip of random rows, by step size.

`python benches/gamma.py [choco|ef|none] [CODEC ...]` prints, per codec and graph, the consensus distance after 200
rounds for each step size, for rows at rest and for rows that drift by 0.02 a round as in training. The rule in
`declora.codec.memory` was read off this table.
"""

import sys

import numpy as np

from declora import _bridge
from declora.codec import parse_codec
from declora.topology import Topology

CLIENTS, COLUMNS, ROUNDS = 10, 2048, 200
STEPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CODECS = (
    "q2", "q3", "qsgd:levels=1", "qsgd:levels=3", "natural", "drive", "eden:bits=2", "sign", "topk:fraction=0.01",
    "topk:fraction=0.05", "topk:fraction=0.2", "randk:fraction=0.05", "randk:fraction=0.3",
)  # fmt: skip


def distance(name: str, topology: Topology, gamma: float, drift: float) -> float:
    """Returns the mean consensus distance of the last 20 rounds; infinite where the rows diverge."""
    codec, draws = parse_codec(name), np.random.default_rng(0)
    rows = draws.standard_normal((CLIENTS, COLUMNS), dtype=np.float32)
    memory = codec.memory(codec.shrink)
    memory.start(np.zeros_like(rows))
    weights = topology.weights(0)
    matrix = _bridge.MixingMatrix(weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data)
    frames, nobody = np.empty((CLIENTS, codec.frame_bytes(COLUMNS)), np.uint8), np.zeros(CLIENTS, np.bool_)
    names = {"run_id": bytes(16), "manifest": bytes(16), "senders": np.arange(CLIENTS, dtype=np.uint32)}
    found = []
    for t in range(ROUNDS):
        rows += np.float32(drift) * draws.standard_normal(rows.shape, dtype=np.float32)
        outgoing = memory.outgoing(rows)
        decoded = np.empty_like(rows)
        codec.encode_frames(outgoing, frames, round=t, seed=1, **names)
        codec.check_frames(frames, COLUMNS, round=t, **names).decode(decoded)
        public = memory.public(decoded)
        memory.remember(outgoing, public, nobody)
        matrix.mix(public, rows, gamma)
        found.append(_bridge.consensus_distance(rows))
        if not found[-1] < 1e6:
            return float("inf")
    return float(np.mean(found[-20:]))


def main() -> None:
    """Prints one line per codec, graph and drift."""
    suffix = "" if sys.argv[1:2] == ["none"] else f"+{(sys.argv[1:2] or ['choco'])[0]}"
    for name in sys.argv[2:] or CODECS:
        if not suffix and _bridge.Codec(name).needs_memory:
            continue
        codec = parse_codec(name + suffix)
        for graph in ("ring", "complete", "star"):
            topology = Topology.build(graph, CLIENTS)
            for drift in (0.0, 0.02):
                row = " ".join(f"{g:g}:{distance(codec.name, topology, g, drift):.2g}" for g in STEPS)
                rule = f"a={codec.contraction:.3f} rule={codec.default_gamma:g}"
                print(f"{codec.name:24s} {rule} {graph:8s} {drift:g}: {row}")


if __name__ == "__main__":
    main()
