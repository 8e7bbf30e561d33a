"""Runs `declora simulate`: a federation in this process; its flags are the fields of `SimulationConfig`."""

import argparse
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

import declora
from declora import process
from declora.cli.environment import of_environment, say_environment
from declora.cli.notes import add_verbosity, next_steps, notes_on_stderr
from declora.config import DEFAULTS, SETTINGS, SimulationConfig
from declora.data.client_files import names_files
from declora.errors import ConfigError
from declora.fields import Field
from declora.kinds import Choice, Switch, Table
from declora.settings import check_places, from_file, to_toml

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "simulate",
        help="run a federation in this process",
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description="Without arguments: the embedded run, which needs no download.",
        epilog="A variable DECLORA_SETTING of the environment (DECLORA_DEVICE=cpu) is the default of that setting; the "
        "file overrides it, and flags override the file.",
    )
    parser.add_argument("--config", metavar="FILE", help="settings in TOML (run.toml) or JSON; flags override them")
    parser.set_defaults(command=_run, spread=True, settings={})
    add_verbosity(parser)
    for section, settings in itertools.groupby(SETTINGS.values(), key=lambda setting: setting.section):
        group = parser.add_argument_group(section.title, section.about)
        for setting in settings:
            _add_flags(group, setting)


def _add_flags(group: "argparse._ArgumentGroup", setting: Field) -> None:
    """Adds the flag of a setting, and one for each field where it is a table."""
    options: dict[str, Any] = {"metavar": "VALUE"}
    if isinstance(setting.kind, Switch):
        options = {"nargs": "?", "const": "true", "metavar": "BOOL"}
    elif isinstance(setting.kind, Choice):
        options = {"metavar": f"{{{','.join(setting.kind.names)}}}"}
    flag, default = "--" + setting.name.replace("_", "-"), getattr(DEFAULTS, setting.name)
    text = setting.text
    if default is not None:
        text += f" [default: {default if isinstance(default, str) else to_toml(default)}]"
    group.add_argument(flag, dest=setting.name, action=_Collect, help=text.replace("%", "%%"), **options)
    if isinstance(setting.kind, Table):
        for name in (f"{setting.name}.{field}" for field in setting.kind.fields):
            text = f"field of {setting.kind.whole}"
            group.add_argument(f"--{name}", dest=name, action=_Collect, help=text, metavar="VALUE")


def _run(options: argparse.Namespace) -> None:
    config, found = of_environment()
    if options.config is not None:
        config = from_file(options.config, given=options.settings, base=config)
    config = config.override(**_changes(config, options.settings))
    check_places(config)
    if options.verbose or options.quiet:
        config = config.override(progress=False)
    with notes_on_stderr(options):
        say_environment(found, config.progress)
        result = declora.simulate(config)
    from declora.cluster import leads  # loads torch, which the settings need not wait for

    if not leads():
        return
    print(result)
    apart = process.ranks() > 1 and names_files(config.data)
    print(f"\n{next_steps(config.out, several=config.compare is not None, apart=apart)}")
    if isinstance(result, declora.Comparison) and result.in_words:
        print(f"\n{textwrap.fill(result.in_words, 80)}")


def _changes(config: SimulationConfig, flags: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings that flags change; `lora.r` changes one field of the table `lora`."""
    changes: dict[str, Any] = {}
    for flag, text in flags.items():
        name, _, field = flag.partition(".")
        setting = SETTINGS[name]
        if not field:
            changes[name] = setting.parse(text)
            continue
        assert isinstance(setting.kind, Table)
        table = changes.get(name, getattr(config, name))
        if not isinstance(table, dict):
            raise ConfigError(f"--{flag} changes one field of {name}, but --{name} is no table. Use one of the two.")
        changes[name] = {**table, field: setting.kind.fields[field].parse(text)}
    return changes


class _Collect(argparse.Action):
    """Collects given flags by name, so that only those override the config file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.settings = {**namespace.settings, self.dest: values}
