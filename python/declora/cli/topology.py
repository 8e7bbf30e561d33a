"""`declora topology`: weights, spectral gap, and what one round costs."""

import argparse
from typing import Any

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser("topology", help="print weights, spectral gap and what one round costs")
    parser.add_argument("spec", help="ring, torus, erdos-renyi:0.5, base:2 ...")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--weights", default="metropolis", help="metropolis, uniform or laplacian")
    parser.add_argument("--codec", default="q4", help="codec of the messages")
    parser.add_argument("--parameters", type=int, default=74498, help="trained parameters of one client")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from declora.codec import parse_codec
    from declora.topology import Topology, describe

    topology = Topology.build(options.spec, options.clients, weights=options.weights, seed=options.seed)
    size = parse_codec(options.codec).frame_bytes(options.parameters)
    print(describe(topology, payload_bytes=size))
    print(f"\nOne message: {options.parameters:,} parameters as {options.codec}, {size:,} bytes with its header.")
