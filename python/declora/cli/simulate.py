"""`declora simulate`: a federation in this process; its flags are the fields of `SimulationConfig`."""

import argparse
from collections.abc import Mapping
from typing import Any

import declora
from declora.cli.notes import notes_on_stderr
from declora.config import LORA, SETTINGS, SimulationConfig
from declora.errors import ConfigError
from declora.fields import documents
from declora.kinds import Switch
from declora.settings import load_toml

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "simulate",
        help="run a federation in this process",
        description="Without arguments: the embedded run.",
    )
    parser.add_argument("--config", metavar="FILE", help="settings in TOML (run.toml) or JSON; flags override them")
    parser.set_defaults(command=_run, settings={})
    texts = documents(SimulationConfig)
    for name, setting in SETTINGS.items():
        switch = {"nargs": "?", "const": "true", "metavar": "BOOL"} if isinstance(setting.kind, Switch) else {}
        flag, text = "--" + name.replace("_", "-"), texts[name].replace("%", "%%")
        parser.add_argument(flag, dest=name, action=_Collect, help=text, **{"metavar": "VALUE", **switch})
    for name in LORA.fields:
        text = "field of peft.LoraConfig"
        parser.add_argument(f"--lora.{name}", dest=f"lora.{name}", action=_Collect, help=text, metavar="VALUE")


def _run(options: argparse.Namespace) -> None:
    config = SimulationConfig()
    if options.config is not None:
        config = config.override(**load_toml(options.config))
    config = config.override(**_changes(config, options.settings))
    with notes_on_stderr():
        result = declora.simulate(config)
    print(result)
    if config.out is not None:
        print(f"\nReport: {config.out}/report.html")


def _changes(config: SimulationConfig, flags: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings that flags change; `lora.r` changes one field of the table `lora`."""
    changes: dict[str, Any] = {}
    for flag, text in flags.items():
        name, _, field = flag.partition(".")
        if not field:
            changes[name] = SETTINGS[name].parse(text)
            continue
        table = changes.get(name, getattr(config, name))
        if not isinstance(table, dict):
            raise ConfigError(f"--{flag} changes one field of {name}, but --{name} is no table. Use one of the two.")
        changes[name] = {**table, field: LORA.fields[field].parse(text)}
    return changes


class _Collect(argparse.Action):
    """Collects given flags by name, so that only those override the config file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.settings = {**namespace.settings, self.dest: values}
