"""Times gossip of many clients that nobody trains: seconds of each phase of a round, and memory.

    python benches/many_clients.py --clients 1000 --columns 100000 --rounds 200
    python benches/many_clients.py --clients 100000 --columns 256 --rounds 20

Everything is that of a run (frames, checks, mixing by the graph's weights) but local steps. Seconds are by the clock on
the wall; those of the processors, of all that the process did, are what a machine without other work would take. Memory
is the most that the process had resident, of which the adapters themselves are clients x columns x 4 bytes.
"""

import argparse
import resource
import time
from collections import Counter

import numpy as np
import torch

from declora.codec import parse_codec
from declora.faults import Faults, parse_faults
from declora.federation import Federation
from declora.gossip import Gossip
from declora.methods import build_method
from declora.model import Block, Layout
from declora.plan import Phase, Plan
from declora.state import State
from declora.topology import Topology


def main() -> None:
    """Runs the rounds and prints a line for each phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--topology", default="random-regular:6")
    parser.add_argument("--codec", default="q4")
    parser.add_argument("--faults")
    options = parser.parse_args()
    start = time.perf_counter()
    topology = Topology.build(options.topology, options.clients, seed=0)
    seconds = Counter({"set up": time.perf_counter() - start})
    faults = Faults() if options.faults is None else parse_faults(options.faults)
    federation = Federation(options.clients, 1, topology, parse_codec(options.codec), faults=faults)
    method, layout = build_method("dec-lora"), Layout([Block("x", (options.columns,), "A", 0)])
    draws = torch.Generator().manual_seed(0)
    state = State(torch.randn(options.clients, options.columns, generator=draws), run_id=bytes(16))
    gossip = Gossip(federation, method, layout, state, sent=layout.whole, gamma=None, version="1", seed=0)
    phase = Phase(np.zeros(options.clients, dtype=np.int64), layout.whole)
    before = state.adapter.numpy().mean(axis=0, dtype=np.float64)
    for t in range(options.rounds):
        start = time.perf_counter()
        plan = Plan(t, (phase,), layout.whole, topology.round(t))
        plan = federation.faults.strike(plan).plan
        seconds["faults"] += time.perf_counter() - start
        inbox = gossip.round(plan, state, method)
        seconds.update(inbox.seconds)
    moved = float(np.abs(state.adapter.numpy().mean(axis=0, dtype=np.float64) - before).max())
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss / 2**20
    sent = int(inbox.bytes_sent.sum())
    print(f"{options.clients:,} clients on {topology.name}, {options.columns:,} columns, {options.codec}, ", end="")
    print(f"{options.rounds} rounds; a round sends {sent / 2**20:,.0f} MiB; the mean moved by {moved:.1e}")
    for name, took in seconds.items():
        of = f" ({took / options.rounds:.3f} s a round)" if name != "set up" else ""
        print(f"  {name:9} {took:8.2f} s{of}")
    print(f"  processors{used.ru_utime + used.ru_stime:8.2f} s")
    print(f"  memory    {peak:8.2f} GiB, of which adapters {options.clients * options.columns * 4 / 2**30:.2f}")


if __name__ == "__main__":
    main()
