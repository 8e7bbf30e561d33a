"""Runs `declora compare`: methods, each with its own learning rate, in one table."""

import argparse
from pathlib import Path
from typing import Any

import declora
from declora.cli.checks import check_runs
from declora.cli.environment import of_environment, say_environment
from declora.cli.notes import add_verbosity, notes_on_stderr, progress_of
from declora.kinds import Real, Wholes
from declora.settings import from_file, parse_overrides, parse_pair

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help="compare methods, each with its own learning rate",
        description="Runs every method with every seed. Learning rates are chosen on rows held out of the training "
        "data. What was finished is not run again: interrupt it and go on later.",
    )
    parser.add_argument(
        "--methods", required=True, help="methods with commas: dec-lora,dp:epsilon=8,delta=1e-5,decaf codec=none"
    )
    parser.add_argument("--config", metavar="FILE", help="settings of every run in TOML (run.toml) or JSON")
    parser.add_argument("--seeds", default="3", metavar="N", help="how many, or which ones with commas")
    parser.add_argument("--budget", default="work", help="what is the same for all: work (default) or bytes")
    parser.add_argument("--rates", metavar="RATES", help="learning rates with commas; default: half, once and twice")
    parser.add_argument("--out", default="runs/compare", help="folder of runs and tables (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every run; may be repeated"
    )
    add_verbosity(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    given = [parse_pair(text) for text in options.set]
    config, found = of_environment()
    if options.config is not None:
        config = from_file(options.config, given=dict(given), base=config)
    seeds = Wholes(0).read("seeds", options.seeds)
    rates = None if options.rates is None else _numbers(options.rates)
    check_runs(config.override(**dict(given)), parse_overrides(options.methods))
    with notes_on_stderr(options):
        say_environment(found, progress_of(options, None))
        result = declora.compare(
            options.methods,
            config=config,
            seeds=seeds,
            budget=options.budget,
            rates=rates,
            out=options.out,
            progress=progress_of(options, None),
            **dict(given),
        )
    print(result)
    print(f"Tables and figures: {Path(options.out) / 'comparison'}")


def _numbers(text: str) -> list[float]:
    return [Real(above=0).read("rates", word.strip()) for word in text.split(",")]
