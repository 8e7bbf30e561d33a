"""Runs the command line: `declora simulate`, `resume`, `verify`, `reproduce` and others; one file each."""

import sys

TYPE_CHECKING = False  # as in `declora`
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Runs the command line and returns the exit status.

    0; 1 for an error of declora's own or of the system; 130 and 143 where a signal ended it (128 + its number), 141
    where whoever read the output has gone.

    Raises:
        SystemExit: argparse has printed help or version (0), or that a flag is unknown (2).
    """
    try:
        # Loaded here, so that an interruption finds somebody who handles it.
        from declora.cli.edges import Stopped, handling_signals

        try:
            with handling_signals():
                from declora.cli.command import run

                return run(arguments)
        except Stopped as stop:
            return stop.report()
    except KeyboardInterrupt:
        print("declora: interrupted", file=sys.stderr)
        return 130
