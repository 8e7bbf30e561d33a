"""The command line: `declora simulate`, `reproduce`, `topology`, `conformance`; one file each."""

import argparse
import sys
from collections.abc import Sequence

import declora
from declora.cli import conformance, reproduce, simulate, topology
from declora.errors import DecloraError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, 1 for an error of declora's own, 2 for unknown flags."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except DecloraError as error:
        print(f"declora: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("declora: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="declora",
        description="Fine-tune one language model together, with LoRA over a graph and no server.",
    )
    parser.add_argument("--version", action="version", version=f"declora {declora.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (simulate, reproduce, conformance, topology):
        command.add_to(commands)
    return parser
