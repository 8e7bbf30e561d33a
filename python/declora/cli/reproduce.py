"""Runs `declora reproduce`: a table of the Dec-LoRA paper, or one of ours."""

import argparse
from pathlib import Path
from typing import Any

import declora
from declora.cli.notes import add_verbosity, notes_on_stderr, progress_of
from declora.errors import ConfigError
from declora.experiments.arguments import check_task
from declora.experiments.catalogue import find_experiment
from declora.experiments.scale import find_scale
from declora.kinds import Wholes
from declora.settings import parse_pair

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "reproduce",
        help="run a table of the Dec-LoRA paper, or one of ours",
        description="Runs every row with every seed. What was finished is not run again: interrupt it and go on later.",
    )
    parser.add_argument("experiment", nargs="?", help="table1, table2, table4, label-skew ... (see --list)")
    parser.add_argument("--list", action="store_true", help="print the experiments and how much they train")
    parser.add_argument("--scale", default="small", help="small (all-MiniLM-L6-v2) or paper (RoBERTa-base)")
    parser.add_argument("--model", help="hub id or path of another base model")
    parser.add_argument("--tasks", type=_names, metavar="NAMES", help="tasks, with commas; default: the experiment's")
    parser.add_argument(
        "--data",
        action="append",
        metavar="WHERE",
        help="hub (default), a folder with a folder for each task, or TASK=PATH or TASK=hub, which may be repeated",
    )
    parser.add_argument("--seeds", default="3", metavar="N", help="how many, or which ones with commas")
    parser.add_argument("--clients", metavar="N", help="another number of clients; with commas, several")
    parser.add_argument("--k", default="steps", help="what K counts: steps (default) or epochs")
    parser.add_argument("--out", default="runs/reproduce", help="folder of runs and tables (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of every run, as in simulate; may be repeated",
    )
    add_verbosity(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    seeds = Wholes(0).read("seeds", options.seeds)
    clients = None if options.clients is None else Wholes(1).read("clients", options.clients)
    if options.list:
        from declora.experiments.overview import overview
        from declora.report.tables import to_text

        print(to_text(overview(options.scale, seeds=seeds)))
        return
    if options.experiment is None:
        raise ConfigError("reproduce needs the name of an experiment. See declora reproduce --list.")
    experiment, data = find_experiment(options.experiment), _data(options.data or ["hub"])
    given = dict(parse_pair(text) for text in options.set)
    for task in options.tasks or experiment.tasks_at(find_scale(options.scale)):
        check_task(experiment, task)
    with notes_on_stderr(options):
        result = declora.reproduce(
            options.experiment,
            scale=options.scale,
            model=options.model,
            tasks=options.tasks,
            data=data,
            seeds=seeds,
            clients=clients,
            k=options.k,
            out=options.out,
            progress=progress_of(options, None),
            **given,
        )
    print(result)
    print(f"Tables and figures: {Path(options.out) / options.experiment}")


def _data(sources: list[str]) -> str | dict[str, str]:
    """Returns one source of all tasks, or sources by task."""
    pairs = {task: path for task, equals, path in (text.partition("=") for text in sources) if equals}
    if pairs and len(pairs) == len(sources):
        return pairs
    if len(sources) == 1:
        return sources[0]
    raise ConfigError(f"--data {' --data '.join(sources)}: give one folder, or only pairs TASK=PATH, each task once.")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
