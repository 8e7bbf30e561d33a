"""What the command line prints beside results: what runs say of themselves, how much of it, and what to do next."""

import argparse
import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from declora.config import SETTINGS

__all__ = ["add_progress", "add_verbosity", "next_steps", "notes_on_stderr", "progress_of"]


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Adds -v and -q to a command that runs something."""
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("-v", "--verbose", action="store_true", help="a line for each round, and no bar")
    levels.add_argument("-q", "--quiet", action="store_true", help="nothing but warnings and the result")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Adds -v, -q and --progress to a command that has no settings."""
    add_verbosity(parser)
    parser.add_argument("--progress", metavar="BOOL", nargs="?", const="true", help="as in simulate")


def progress_of(options: argparse.Namespace, given: str | None) -> bool | None:
    """Returns what `progress` is: with -v and -q there is no bar, else it is as given."""
    if options.verbose or options.quiet:
        return False
    return None if given is None else SETTINGS["progress"].kind.read("progress", given)


@contextmanager
def notes_on_stderr(options: argparse.Namespace) -> Iterator[None]:
    """Prints what runs say of themselves where no progress is shown, too."""
    log, handler = logging.getLogger("declora"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def next_steps(out: str | None, *, several: bool, apart: bool = False) -> str:
    """Returns what to look at and to do after a run.

    Args:
        out: Its folder.
        several: Whether it is that of a comparison.
        apart: Whether clients' data is on other hosts, so that none can be held against what needs it in one place.
    """
    if out is None:
        return "Nothing was kept. With --out runs/NAME there are adapters, tables and a report."
    if several:
        return f"Report: {out}/report.html"
    found = f'Report: {out}/report.html\nLoad:   PeftModel.from_pretrained(base, "{out}/adapters/average")'
    if apart:
        return found
    again = ["declora", "simulate", "--config", f"{out}/config.json", "--out", f"{out}-compared"]
    return f"{found}\nBeside: {shlex.join(again)} \\\n          --compare dec-lora,fedavg,local,centralized"
