"""Runs `declora validate`: whether a file of settings can be run, before anything is loaded."""

import argparse
from typing import Any

from declora.cli.checks import check_runs
from declora.cli.environment import of_environment, say_environment
from declora.config import DEFAULTS, SETTINGS
from declora.settings import from_file, parse_overrides

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "validate",
        help="check a file of settings",
        description="Checks names and values of a file of settings, that files and folders in it are there, and that "
        "graph, codec, mixer and method go together. Loads neither data nor model.",
    )
    parser.add_argument("file", metavar="FILE", help="settings in TOML (run.toml) or JSON (config.json of a run)")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    base, found = of_environment()
    config = from_file(options.file, base=base)
    runs = {"": {}} if config.compare is None else parse_overrides(config.compare)
    check_runs(config, runs)
    say_environment(found)
    changed = [name for name in SETTINGS if getattr(config, name) != getattr(DEFAULTS, name)]
    print(f"{options.file} can be run, as far as settings say: {', '.join(changed) or 'nothing'} changed.")
    if config.compare is not None:
        print(f"It asks for {len(runs)} runs: {', '.join(runs)}.")
