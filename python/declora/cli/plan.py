"""Runs `declora plan`: how many rounds of how many local steps a budget is best spent on."""

import argparse
import shlex
from typing import Any

import declora
from declora.cli.checks import check_runs
from declora.cli.environment import of_environment, say_environment
from declora.cli.notes import add_verbosity, notes_on_stderr, progress_of
from declora.kinds import Bytes, Real
from declora.settings import from_file, parse_pair

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "plan",
        help="choose rounds and local steps for a budget of seconds or bytes",
        description="Runs three short rounds of the settings to see what steps, rounds and messages cost, and chooses "
        "by the bound of BLADE-FL (arXiv 2101.06905): see docs/plan.md.",
    )
    parser.add_argument("--config", metavar="FILE", help="settings of the run in TOML (run.toml) or JSON")
    parser.add_argument("--seconds", metavar="T", help="what all rounds may take, evaluations included")
    parser.add_argument("--bytes", metavar="SIZE", help="what all clients may send together: 2GB, 512MiB")
    parser.add_argument("--step-seconds", metavar="T", help="a local step of all clients; default: measured")
    parser.add_argument("--round-seconds", metavar="T", help="a round beside its steps; default: measured, here")
    parser.add_argument("--ratio", metavar="R", help="c1/c2 of the bound, lower for unlike data; default: 20")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the run; may be repeated"
    )
    add_verbosity(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    given = [parse_pair(text) for text in options.set]
    config, found = of_environment()
    if options.config is not None:
        config = from_file(options.config, given=dict(given), base=config)
    numbers = {
        name: Real(above=0).read(name, text)
        for name in ("seconds", "step_seconds", "round_seconds", "ratio")
        if (text := getattr(options, name)) is not None
    }
    size = None if options.bytes is None else Bytes().read("bytes", options.bytes)
    check_runs(config.override(**dict(given)), {"": {}})
    with notes_on_stderr(options):
        say_environment(found, progress_of(options, None))
        plan = declora.plan_rounds(config, bytes=size, **numbers, **dict(given))
    print(plan)
    words = ["declora", "simulate", *(() if options.config is None else ("--config", options.config))]
    for text in options.set:
        name, _, value = text.partition("=")
        words += [f"--{name.replace('_', '-')}", value]
    print(f"\n{shlex.join([*words, '--rounds', str(plan.rounds), '--local-steps', str(plan.local_steps)])}")
