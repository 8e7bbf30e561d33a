"""Reads settings: from a TOML file, a run's own, `name=value` pairs, and those of the runs of a comparison."""

import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from declora.config import DEFAULTS, SETTINGS, SimulationConfig, unknown_setting
from declora.data.client_files import names_files
from declora.errors import ConfigError, shown, unknown_name
from declora.kinds import Given, Objects, Table, parse_value
from declora.methods import METHODS, NAMED
from declora.topology.names import is_file

__all__ = [
    "check_places",
    "from_file",
    "load_toml",
    "loading_of",
    "of_run",
    "parse_overrides",
    "parse_pair",
    "parse_setting",
    "shareable",
    "to_toml",
]

_LONGEST_FILE = 2**20
"""Bytes of a file of settings that a user wrote; what is longer is something else."""
_LONGEST_OF_RUN = 2**30
"""Bytes of one that a run wrote; it may hold a mixing matrix of thousands of clients."""
_BESIDE = {"callbacks", "report_to"}
"""What may be another when a run goes on: it only hears of the run."""


def load_toml(path: str | os.PathLike[str], *, longest: int = _LONGEST_FILE) -> dict[str, Any]:
    """Returns the settings of a `run.toml`, or of the `config.json` that a run folder holds, unchecked.

    Args:
        path: Of the file.
        longest: Bytes that it may have.

    Raises:
        ConfigError: The file is missing, or is not a table of settings.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(longest + 1)
        if len(content) > longest:
            raise ConfigError(f"config={shown(str(path))} is over {longest:,} bytes long: no file of settings.")
        text = content.decode("utf-8-sig")
        settings = json.loads(text) if os.fspath(path).endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"config={shown(str(path))} cannot be read: {error.strerror}. Give the path of a TOML file."
        ) from error
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        kind = "JSON" if str(path).endswith(".json") else "TOML"
        raise ConfigError(f"config={shown(str(path))} is not valid {kind}: {error}.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"config={shown(str(path))} holds a {type(settings).__name__}, not a table of settings.")
    return settings


def to_toml(value: Any) -> str:
    """Returns a plain value (a number, a text, a truth value, a list or table of these) as TOML has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {to_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(value)  # TOML's numbers, texts and truth values are JSON's


def from_file(
    path: str | os.PathLike[str], *, given: Collection[str] = (), base: SimulationConfig = DEFAULTS
) -> SimulationConfig:
    """Returns the settings in a `run.toml`, or in the `config.json` of a run.

    Args:
        path: Of the file.
        given: Settings that are not read there, as somebody sets them.
        base: What holds where the file says nothing.

    Raises:
        ConfigError: There is no such file, or it has something that is no setting, or only the description of an
            object.
    """
    stored = {name: value for name, value in load_toml(path).items() if name not in given}
    _check_objects(stored, path, asked="simulate")
    return base.override(**stored)


def check_places(config: SimulationConfig) -> None:
    """Checks that files and folders which settings name are there, as far as a text can be nothing but a path.

    Raises:
        ConfigError: One is not.
    """
    for name in ("model", "tokenizer", "data", "eval_data", "public_data"):
        place = getattr(config, name)
        path = str(place).rpartition("=")[2] if isinstance(place, str | Path) else ""  # sst2=PATH
        if path.startswith(("/", "./", "../")) and not os.path.exists(path) and not names_files(place):
            raise ConfigError(f"{name}={shown(place)} is not there. Give the path of one that is, or a name.")
    if is_file(config.topology) and not os.path.exists(os.path.expanduser(config.topology)):
        raise ConfigError(
            f"topology={shown(config.topology)} is not there. Give the path of a file that is, or a name."
        )


def loading_of(config: SimulationConfig) -> dict[str, Any]:
    """Returns how settings have the base loaded, beside what and where it is, as `model.load_base` takes it."""
    names = ("dtype", "load_in_4bit", "quantization_config", "trust_remote_code", "device", "seed")
    return {name: getattr(config, name) for name in names}


def of_run(path: str | os.PathLike[str], folder: Path, given: Mapping[str, Any], *, asked: str) -> SimulationConfig:
    """Returns the settings of the run in `folder`, as its `config.json` holds them.

    Args:
        path: What the user called it.
        folder: Where its files are.
        given: The objects (a model, a graph, rows of data) that the run was given, which the file can only describe.
        asked: The function of `declora` that asks.

    Raises:
        ConfigError: There are no settings, an object is missing, or something was given that the run did not have (but
            for callbacks and `report_to`).
    """
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"path={os.fspath(path)!r} is a run that was stopped before it began. Begin it again.")
    stored = load_toml(file, longest=_LONGEST_OF_RUN)
    for name in given:
        if name not in SETTINGS:
            raise unknown_setting(name)
    _check_objects({name: value for name, value in stored.items() if name not in given}, path, asked=asked)
    if given.get("compare") is not None:
        given = {**given, "compare": parse_overrides(given["compare"])}
    config = SimulationConfig().override(**{**stored, **given})
    described = config.describe()
    for name in given:
        if name not in _BESIDE and described[name] != stored.get(name):
            raise ConfigError(
                f"{name}={shown(described[name])} is not what the run had, which is {shown(stored.get(name))}. Leave "
                "it out, or begin another run."
            )
    return config


def _check_objects(stored: Mapping[str, Any], path: str | os.PathLike[str], *, asked: str) -> None:
    """Refuses settings that were objects, which a file can only describe.

    Args:
        stored: As the file has them.
        path: What the user called it.
        asked: The function of `declora` that takes them.
    """
    if missing := [name for name in stored if _is_described(name, stored[name])]:
        objects = ", ".join(f"{name}=..." for name in missing)
        without = " Callbacks may be others, or callbacks=None." if "callbacks" in missing else ""
        raise ConfigError(
            f"{missing[0]}={shown(stored[missing[0]])} is an object, which {os.fspath(path)!r} can only describe. Pass "
            f"the same one, from Python: declora.{asked}({os.fspath(path)!r}, {objects}).{without}"
        )


def _is_described(name: str, value: Any) -> bool:
    """Returns whether a stored setting was an object, of which there is only a description."""
    if name in SETTINGS and not isinstance(SETTINGS[name].kind, Given | Objects | Table):
        return False
    if name == "model" and isinstance(value, Mapping):  # a configuration of transformers
        return True
    if isinstance(value, Mapping | list):
        return any(_is_described(name, item) for item in (value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, str) and re.fullmatch(r"<.+>", value) is not None


def parse_setting(name: str, text: str) -> Any:
    """Returns what `text` means as the value of a setting; a name that is none is left for `override` to refuse."""
    return SETTINGS[name].parse(text) if name in SETTINGS else parse_value(text)


def parse_pair(text: str) -> tuple[str, Any]:
    """Returns the name and value of `name=value`; dashes in the name count as underscores.

    Raises:
        ConfigError: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{shown(text)} is not a setting. Write it as name=value.")
    name = name.replace("-", "_")
    return name, parse_setting(name, value)


def parse_overrides(
    runs: Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | str,
) -> dict[str, dict[str, Any]]:
    """Returns the settings that each run of a comparison changes, under the run's label.

    Args:
        runs: Method names with overrides (`["local", "dec-lora codec=none"]`, or the same as one text with commas),
            tables of settings, or labels with their tables.

    Raises:
        ConfigError: No run, an unknown method, two runs with one label, or something that is no table of settings.
    """
    if isinstance(runs, str):
        runs = _separated(runs)
    if not isinstance(runs, Sequence | Mapping):
        raise ConfigError(f"compare={shown(runs)} must be a list of runs, e.g. compare=['dec-lora', 'local'].")
    if isinstance(runs, Mapping):
        if bad := [label for label, changes in runs.items() if not isinstance(changes, Mapping)]:
            raise ConfigError(f"compare[{bad[0]!r}]={runs[bad[0]]!r} must be a table of settings.")
        labelled = [(str(label), dict(changes)) for label, changes in runs.items()]
    else:
        labelled = [_parse_run(run) for run in runs]
    if not labelled:
        raise ConfigError("compare=[] names no run. Give at least one, e.g. compare=['dec-lora', 'local'].")
    found = dict(labelled)
    if len(found) < len(labelled):
        labels = [label for label, _ in labelled]
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(
            f"compare has {twice!r} twice. Give the runs different settings, or labels: {{'a': {{...}}}}."
        )
    return found


def _separated(text: str) -> list[str]:
    """Returns what stands between commas, but for those between options of one method: `dp:epsilon=8,delta=1e-5`."""
    runs: list[str] = []
    for piece in (piece.strip() for piece in text.split(",")):
        last = re.split("[+]", runs[-1])[-1] if runs else ""  # of overrides, no name of a method
        part = METHODS.get(last.partition(":")[0])
        if part is not None and ":" in last and piece.partition("=")[0] in part.options:
            runs[-1] += f",{piece}"
        else:
            runs.append(piece)
    return runs


def _parse_run(run: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(run, Mapping):
        return " ".join(f"{name}={value}" for name, value in run.items()), dict(run)
    words = str(run).split()
    changes: dict[str, Any] = {}
    if words and not re.match(r"[\w.-]+=", words[0]):  # of "tad-lora:interval=5" only the option is written so
        if re.split("[:+]", words[0])[0] not in {**METHODS, **NAMED}:
            raise unknown_name("compare", words[0], {**METHODS, **NAMED})
        changes["method"] = words.pop(0)
    changes |= dict(parse_pair(word) for word in words)
    return str(run), changes


def shareable(a: SimulationConfig, b: SimulationConfig) -> bool:
    """Returns whether two runs can use the same material."""
    if names_files(a.data) and (a.clients, a.group_size) != (b.clients, b.group_size):  # other clients may be here
        return False
    return all(_same(getattr(a, name), getattr(b, name)) for name, setting in SETTINGS.items() if setting.loaded)


def _same(a: Any, b: Any) -> bool:
    """Returns whether two values are one object, or plain values that are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or (isinstance(a, str | int | float | bool | None) and a == b)
