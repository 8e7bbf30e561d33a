"""`declora simulate`: a federation in this process; its flags are the fields of `SimulationConfig`."""

import argparse
from typing import Any

import declora
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
    settings = {} if options.config is None else load_toml(options.config)
    for name, text in options.settings.items():
        _set(settings, name, text)
    config = SimulationConfig().override(**settings)
    print(declora.simulate(config))
    if config.out is not None:
        print(f"\nReport: {config.out}/report.html")


def _set(settings: dict[str, Any], name: str, text: str) -> None:
    """Sets `name` to what `text` means, or with `lora.r` one field of the table `lora`."""
    table, _, field = name.partition(".")
    if not field:
        settings[name] = SETTINGS[name].parse(text)
        return
    start = settings.get(table, SimulationConfig().lora)
    if not isinstance(start, dict):
        raise ConfigError(f"--{name} changes a field of {table}, which is no table here. Set {table} as a whole.")
    settings[table] = {**start, field: LORA.fields[field].parse(text)}


class _Collect(argparse.Action):
    """Collects given flags by name, so that only those override the config file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.settings = {**namespace.settings, self.dest: values}
