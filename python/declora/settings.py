"""Settings written as text: one value, `name=value` pairs, and the runs of a comparison."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from declora.errors import ConfigError, unknown_name
from declora.methods import METHODS

__all__ = ["parse_overrides", "parse_pair", "parse_value"]


def parse_value(text: str) -> Any:
    """Returns what `text` means: a TOML value (`3`, `0.5`, `true`, `[1, 2]`, `"x"`), `none`, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_pair(text: str) -> tuple[str, Any]:
    """Returns the name and value of `name=value`; dashes in the name count as underscores.

    Raises:
        ConfigError: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is not a setting. Write it as name=value.")
    # A codec is a name even where it looks like nothing else would: codec=none is not the absence of one, and
    # attack=nan is no number.
    is_name = name == "codec" or (name == "attack" and value.lower() != "none")
    return name.replace("-", "_"), value if is_name else parse_value(value)


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
        runs = [run.strip() for run in runs.split(",")]
    if not isinstance(runs, Sequence | Mapping):
        raise ConfigError(f"compare={runs!r} must be a list of runs, e.g. compare=['dec-lora', 'local'].")
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


def _parse_run(run: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(run, Mapping):
        return " ".join(f"{name}={value}" for name, value in run.items()), dict(run)
    words = str(run).split()
    changes: dict[str, Any] = {}
    if words and "=" not in words[0]:
        if words[0] not in METHODS:
            raise unknown_name("compare", words[0], METHODS)
        changes["method"] = words.pop(0)
    changes |= dict(parse_pair(word) for word in words)
    return str(run), changes
