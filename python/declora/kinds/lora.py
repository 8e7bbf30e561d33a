"""Says what the fields of a LoRA configuration may be: in a table, as flags, or as those of a `peft.LoraConfig`."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from declora.errors import ConfigError, ModelError, refuse, shown
from declora.kinds.kind import Kind, parse_value
from declora.kinds.texts import Texts
from declora.kinds.values import Real, Switch, Whole, Wholes

__all__ = ["LORA_FIELDS", "one_of_all"]


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


def one_of_all(loras: Sequence[Any]) -> tuple[Any, list[int]]:
    """Returns one LoRA configuration, that of the largest rank, for clients that differ in nothing but rank, and ranks.

    Raises:
        ModelError: They differ in more, or in the scale of B A, which is lora_alpha / r (rsLoRA: / sqrt r).
    """
    try:
        tables = [dict(one if isinstance(loras[0], Mapping) else one.to_dict()) for one in loras]
    except (AttributeError, TypeError, ValueError):
        raise ModelError(
            f"lora={shown(loras)} must be all tables of the fields of peft.LoraConfig, or all such."
        ) from None
    ranks = [_rank.check(f"lora[{i}].r", table.pop("r", None) or 8) for i, table in enumerate(tables)]
    alphas = [
        _alpha.check(f"lora[{i}].lora_alpha", table.pop("lora_alpha", None) or rank)
        for i, (table, rank) in enumerate(zip(tables, ranks, strict=True))
    ]
    divisors = [rank**0.5 if table.get("use_rslora") else rank for table, rank in zip(tables, ranks, strict=True)]
    scales = [alpha / divisor for alpha, divisor in zip(alphas, divisors, strict=True)]
    for i, (table, scale) in enumerate(zip(tables, scales, strict=True)):
        for field in sorted(table.keys() | tables[0].keys()):
            if table.get(field) != tables[0].get(field):
                raise ModelError(
                    f"lora[{i}].{field}={shown(table.get(field))}, but that of lora[0] is "
                    f"{shown(tables[0].get(field))}: clients may differ in r, with the lora_alpha of its scale, alone."
                )
        if not math.isclose(scale, scales[0]):
            raise ModelError(
                f"lora[{i}] has the scale {scale:g} (lora_alpha / r), but lora[0] has {scales[0]:g}: adapters are "
                f"combined at one scale. Set lora[{i}].lora_alpha={scales[0] * divisors[i]:g}."
            )
    return loras[ranks.index(max(ranks))], ranks
