"""`declora verify`: recompute a run and compare it with what its folder holds."""

import argparse
from typing import Any

import declora
from declora.cli.notes import add_progress, notes_on_stderr, progress_of
from declora.errors import RunFolderError
from declora.report import find_run

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "verify",
        help="recompute a run and compare it with what its folder holds",
        description="Recomputes a run from its start, compares round by round, and names the first that differs; then "
        "compares its newest checkpoint and its adapters. Takes as long as the run did, and changes nothing.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run or comparison: what --out named")
    add_progress(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    """Prints what was found; an error, and so a status of 1, where something differs."""
    progress = progress_of(options, options.progress)
    find_run(options.run)  # before torch is loaded for nothing
    with notes_on_stderr(options):
        found = declora.verify(options.run, progress=progress)
    print(found)
    if not found.holds:
        raise RunFolderError(f"path={options.run!r} is not what its settings give: {found.differences[0]}")
