"""How settings are written down, so that whoever reads them elsewhere has the same run."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from declora.callbacks import Callback
from declora.codec import Codec
from declora.data.presets import PRESETS
from declora.methods import Part, Stack
from declora.mixer import Mixer
from declora.spec import spelled
from declora.topology import GraphSchedule
from declora.topology.names import is_file

__all__ = ["describe"]

_DATA = ("data", "eval_data", "public_data")
_PLACES = (*_DATA, "model", "tokenizer")
"""Settings that may be paths."""
_NAMES = ("stdlib-docstrings", "held-out", "minilm")
"""What is none, whatever files there are."""


def describe(name: str, value: Any) -> Any:
    """Returns a setting as JSON would hold it: a path that is there absolute, an object by a short description."""
    if name in _PLACES and isinstance(value, Path):
        return os.path.abspath(value.expanduser())
    if name in _PLACES and isinstance(value, str):
        return _absolute(value, is_data=name in _DATA)
    if name in _DATA:
        return _data(name, value)
    if name == "clock" and value is not None and (trace := re.fullmatch(r"trace:(?:file=)?([^,:]+)(.*)", value)):
        return f"trace:{os.path.abspath(os.path.expanduser(trace[1]))}{trace[2]}"
    if name == "compare" and isinstance(value, Mapping):
        return {str(label): _settings(changes) for label, changes in value.items()}
    if name == "topology" and is_file(value):
        return os.path.abspath(os.path.expanduser(value))
    if name in ("partition", "topology") and callable(value):
        return f"<{spelled(value)}>"
    return _plain(value)


def _absolute(place: str, *, is_data: bool) -> str:
    """Returns a place by which it is found from anywhere: a path that leads somewhere, or a name as it is."""
    task, equals, path = place.partition("=")
    if is_data and task in PRESETS:
        found = path if equals else task
        return f"{task}={os.path.abspath(found)}" if _is_there(found) else place
    path = os.path.expanduser(place)
    return os.path.abspath(path) if place not in _NAMES and _is_there(path) else place


def _is_there(path: str) -> bool:
    return path != "" and os.path.exists(path)


def _settings(changes: Any) -> Any:
    if not isinstance(changes, Mapping):  # which is refused where runs are read
        return _plain(changes)
    return {str(name): describe(str(name), value) for name, value in changes.items()}


def _data(name: str, data: Any) -> Any:
    """Returns data by their paths, or lists of rows or conversations by their length: they are no settings."""
    if isinstance(data, Mapping):
        return {str(split): describe(name, rows) for split, rows in data.items()}
    if not isinstance(data, list | tuple):
        return _plain(data)
    rows = [isinstance(item, Mapping) and "train" not in item for item in data]
    return f"<{len(data)} rows>" if any(rows) else [describe(name, item) for item in data]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain(v) for v in items]
    if (type(value).__module__, type(value).__name__) == ("torch", "dtype"):
        return str(value).removeprefix("torch.")
    if hasattr(value, "quantization_method") and hasattr(value, "to_dict"):  # no defaults of its own, as in a table
        return _plain(value.to_dict())
    if hasattr(value, "to_diff_dict"):  # peft.LoraConfig and transformers configurations
        return _plain(value.to_diff_dict())
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Callback | Codec | Mixer | GraphSchedule | Part | Stack):
        return f"<{value}>"
    return f"<{type(value).__name__}>"
