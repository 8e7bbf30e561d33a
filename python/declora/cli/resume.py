"""`declora resume`: go on with a run that was stopped, or with more rounds."""

import argparse
from pathlib import Path
from typing import Any

import declora
from declora.cli.notes import notes_on_stderr
from declora.config import SETTINGS

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
    parser.add_argument("--progress", metavar="BOOL", nargs="?", const="true", help="as in simulate")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from declora.report import place_of

    given = {name: getattr(options, name) for name in ("rounds", "progress")}
    settings = {name: SETTINGS[name].parse(text) for name, text in given.items() if text is not None}
    with notes_on_stderr():
        result = declora.resume(options.run, **settings)
    print(result)
    print(f"\nReport: {place_of(Path(options.run))}/report.html")
