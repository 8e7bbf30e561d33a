"""Runs `declora topology`: weights, spectral gap, and what one round costs."""

import argparse
from typing import Any

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser("topology", help="print weights, spectral gap and what one round costs")
    parser.add_argument("spec", help="ring, torus, erdos-renyi:0.5, base:2 ...")
    parser.add_argument("--clients", default="10")
    parser.add_argument("--weights", default="metropolis", help="metropolis, uniform or laplacian")
    parser.add_argument("--codec", default="q4", help="codec of the messages")
    parser.add_argument("--parameters", default="74498", help="trained parameters of one client")
    parser.add_argument("--seed", default="0")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from declora.codec import parse_codec
    from declora.config import SETTINGS
    from declora.kinds import Whole
    from declora.topology import Topology, describe

    names = ("clients", "weights", "codec", "seed")
    clients, weights, codec, seed = (SETTINGS[name].kind.read(name, getattr(options, name)) for name in names)
    parameters = Whole(1, 2**35).read("parameters", options.parameters)
    size = parse_codec(codec).frame_bytes(parameters)
    topology = Topology.build(options.spec, clients, weights=weights, seed=seed)
    print(describe(topology, payload_bytes=size))
    print(f"\nOne message: {parameters:,} parameters as {codec}, {size:,} bytes with its header.")
