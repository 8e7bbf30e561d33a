"""Says what the fields of a LoRA configuration may be: in a table, as flags, or as those of a `peft.LoraConfig`."""

import re
from collections.abc import Mapping
from typing import Any

from declora.errors import ConfigError, refuse, shown
from declora.kinds.kind import Kind, parse_value
from declora.kinds.texts import Texts
from declora.kinds.values import Real, Switch, Whole, Wholes

__all__ = ["LORA_FIELDS"]


class _Modules(Texts):
    """Takes names of modules in a list, or one text: a name that PEFT knows, or a regular expression."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the text, or the list."""
        checked = super().check(name, value)
        if isinstance(checked, str):
            _compile(name, checked)
        return checked


class _Listed(Texts):
    """Takes names of modules in a list."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the list."""
        if isinstance(value, str):
            refuse(name, value, "a list of names")
        return super().check(name, value)


class _ByPattern(Kind):
    """Takes a table of regular expressions for names of modules, each with a value of one kind."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """Returns the table."""
        if not isinstance(value, Mapping):
            refuse(name, value, "a table of module names with their values")
        for pattern in value:
            _compile(name, pattern)
        return {pattern: self._kind.check(f"{name}[{shown(pattern)}]", item) for pattern, item in value.items()}

    def parse(self, text: str) -> Any:
        """Returns the table that `text` is in TOML, else what else it means."""
        return parse_value(text)


def _compile(name: str, pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{name}={shown(pattern)} is not a regular expression: {error}. Give names of modules as a list, or "
            "correct the expression."
        ) from error


_rank, _alpha = Whole(1, 2**16), Real(above=0)
LORA_FIELDS: dict[str, Kind] = {
    "r": _rank,
    "lora_alpha": _alpha,
    "lora_dropout": Real(least=0, below=1),
    "target_modules": _Modules(),
    "exclude_modules": _Modules(),
    "modules_to_save": _Listed(),
    "rank_pattern": _ByPattern(_rank),
    "alpha_pattern": _ByPattern(_alpha),
    "layers_to_transform": Wholes(0),
    "layers_pattern": Texts(),
    "use_rslora": Switch(),
    "fan_in_fan_out": Switch(),
    "inference_mode": Switch(),
}
"""The kind of each field that is checked before PEFT sees it, by name."""
