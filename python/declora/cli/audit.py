"""`declora audit`: check the ledger of a run."""

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
        "audit",
        help="check the ledger of a run",
        description="Checks the chain and the signatures of a run that was started with --ledger, and that its digests "
        "are those of what else is in its folder; says how many rounds are sound, the head of the chain, and what is "
        "broken first. Changes nothing.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run or comparison: what --out named")
    parser.add_argument("--replay", action="store_true", help="recompute the run and its digests, too, as verify does")
    add_progress(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    """Prints what was found; an error, and so a status of 1, where something is broken."""
    progress = progress_of(options, options.progress)
    find_run(options.run)  # before torch is loaded for nothing
    with notes_on_stderr(options):
        found = declora.audit(options.run, replay=options.replay, progress=progress)
    print(found)
    if not found.holds:
        broken = [*found.differences, *(found.verification.differences if found.verification else ())]
        raise RunFolderError(f"path={options.run!r} is not as its ledger was written: {broken[0]}")
