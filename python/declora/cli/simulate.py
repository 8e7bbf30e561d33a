"""`declora simulate`: a federation in this process; its flags are the fields of `SimulationConfig`."""

import argparse
import ast
import dataclasses
import inspect
from typing import Any

import declora
from declora.config import SimulationConfig, load_toml
from declora.errors import ConfigError
from declora.settings import parse_value

__all__ = ["add_to", "field_documents"]

# Settings whose text is a name and never a TOML value.
_TEXT = {
    "model",
    "data",
    "topology",
    "codec",
    "mixer",
    "attack",
    "partition",
    "method",
    "compare",
    "out",
    "eval_data",
    "weights",
}


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "simulate",
        help="run a federation in this process",
        description="Without arguments: the embedded run.",
    )
    parser.add_argument("--config", metavar="FILE", help="settings in TOML (run.toml) or JSON; flags override them")
    parser.set_defaults(command=_run, settings={})
    documents = field_documents()
    for field in dataclasses.fields(SimulationConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            parser.add_argument(
                flag,
                dest=field.name,
                action=_Collect,
                nargs="?",
                const="true",
                help=documents[field.name],
                metavar="BOOL",
            )
        else:
            parser.add_argument(flag, dest=field.name, action=_Collect, help=documents[field.name], metavar="VALUE")
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora"):
        parser.add_argument(
            f"--lora.{name}",
            dest=f"lora.{name}",
            action=_Collect,
            help="field of peft.LoraConfig",
            metavar="VALUE",
        )


def _run(options: argparse.Namespace) -> None:
    settings = load_toml(options.config) if options.config else {}
    for name, text in options.settings.items():
        value = text if (name in _TEXT and text.lower() != "none") or name == "codec" else parse_value(text)
        _set(settings, name, value)
    settings.setdefault("out", None)
    result = declora.simulate(SimulationConfig().override(**settings))
    print(result)
    if settings["out"]:
        print(f"\nReport: {settings['out']}/report.html")


def _set(settings: dict[str, Any], name: str, value: Any) -> None:
    """Sets `name`, or with `lora.r` one field of the table `lora`."""
    table, _, inner = name.partition(".")
    if not inner:
        settings[name] = value
        return
    if table != "lora":
        raise ConfigError(f"--{name}: only lora has fields of its own. Use e.g. --lora.r 8.")
    start = settings.get(table, SimulationConfig().lora)
    settings[table] = {**start, inner: value.split(",") if isinstance(value, str) and "," in value else value}


class _Collect(argparse.Action):
    """Collects given flags by name, so that only those override the config file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.settings = {**namespace.settings, self.dest: values}


def field_documents() -> dict[str, str]:
    """Returns the text under each field of `SimulationConfig`: the flags' help is the fields' documentation."""
    body = ast.parse(inspect.getsource(SimulationConfig)).body[0]
    assert isinstance(body, ast.ClassDef)
    documents: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            documents[field.target.id] = str(text.value.value).replace("%", "%%")
    return documents
