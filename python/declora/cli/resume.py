"""`declora resume`: go on with a run that was stopped, or with more rounds."""

import argparse
from pathlib import Path
from typing import Any

import declora
from declora import process
from declora.cli.notes import add_progress, next_steps, notes_on_stderr, progress_of
from declora.config import SETTINGS
from declora.data.client_files import names_files
from declora.report import find_run, place_of

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "resume",
        help="go on with a run that was stopped, or with more rounds",
        description="Goes on from the newest sound checkpoint of a run that was started with --checkpoint-every. On a "
        "CPU the result is that of the run without the interruption, bit for bit.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run or comparison: what --out named")
    parser.add_argument("--rounds", metavar="N", help="rounds of the whole run; default: as it was started")
    add_progress(parser)
    parser.set_defaults(command=_run, spread=True)


def _run(options: argparse.Namespace) -> None:
    rounds = None if options.rounds is None else SETTINGS["rounds"].kind.read("rounds", options.rounds)
    find_run(options.run, unfinished=True)  # before torch is loaded for nothing
    with notes_on_stderr(options):
        result = declora.resume(options.run, rounds=rounds, progress=progress_of(options, options.progress))
    from declora.cluster import leads  # loads torch

    if not leads():
        return
    print(result)
    several = isinstance(result, declora.Comparison)
    apart = not isinstance(result, declora.Comparison) and process.ranks() > 1 and names_files(result.config.data)
    print(f"\n{next_steps(str(place_of(Path(options.run))), several=several, apart=apart)}")
