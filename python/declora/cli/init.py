"""Runs `declora init`: a file of settings to begin with, each with what it means and its default."""

import argparse
import itertools
import textwrap
from pathlib import Path
from typing import Any

from declora.config import DEFAULTS, SETTINGS
from declora.errors import ConfigError
from declora.fields import Field
from declora.settings import to_toml

__all__ = ["add_to", "template"]

_HEAD = """\
# Settings of a run of declora, each with its default and what it means: take the # from before its name to change it.
#
#   declora validate {path}             says what is wrong, before anything is loaded
#   declora simulate --config {path}    runs it; flags override the file
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "init",
        help="write a file of settings to begin with",
        description="Writes every setting with what it means and its default into a TOML file, for --config.",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="run.toml", help="default: %(default)s")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    try:
        with open(options.file, "x", encoding="utf-8") as file:
            file.write(template(options.file))
    except FileExistsError:
        raise ConfigError(f"file={options.file!r} is there already. Give another name, or remove it first.") from None
    except OSError as error:
        raise ConfigError(f"file={options.file!r} cannot be written: {error.strerror}. Give another place.") from None
    print(f"{options.file} has every setting, with its default. Change some, then:")
    print(f"  declora validate {options.file}")
    print(f"  declora simulate --config {options.file}")


def template(path: str | Path = "run.toml") -> str:
    """Returns a file of settings in TOML, all commented out, under the headings of their sections."""
    lines = [_HEAD.format(path=path)]
    for section, fields in itertools.groupby(SETTINGS.values(), key=lambda field: field.section):
        lines += [f"\n# ---- {section.title}: {section.about}", ""]
        lines += [_setting(field) for field in fields]
    return "\n".join(lines)


def _setting(field: Field) -> str:
    """Returns the lines of one setting; TOML has no word for none, so one that is none by default has no value."""
    about = textwrap.fill(" ".join(field.text.split()), 120, initial_indent="# ", subsequent_indent="# ")
    default = getattr(DEFAULTS, field.name)
    return f"{about}\n#{field.name} ={'' if default is None else ' ' + to_toml(default)}\n"
