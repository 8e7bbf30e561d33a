"""The LoRA configuration of a run: what the setting `lora` says, checked field by field and completed for the model."""

import copy
import math
import re
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn

from peft import LoraConfig, TaskType

from declora.errors import ModelError
from declora.model.load import BaseModel
from declora.model.lora_names import check_names, check_rank
from declora.model.new_weights import saved_with
from declora.model.targets import PEFT_ROOT, trained_wholes

__all__ = ["adapter_config"]

_NAMES = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern")
_PATTERNS = ("target_modules", "exclude_modules")
_SWITCHES = ("use_rslora", "fan_in_fan_out", "inference_mode")


def adapter_config(lora: LoraConfig | Mapping[str, Any], base: BaseModel, task_type: TaskType) -> LoraConfig:
    """Returns the `LoraConfig` of a run over `base`, its task type, targets and new modules filled in.

    Args:
        lora: A `LoraConfig`, left as it is, or a table of its fields; `lora_alpha` is r where the table has none.
        base: What is adapted.
        task_type: That of the data.

    Raises:
        ModelError: A field is unknown, has a value that it cannot have, or names what the model does not have; or the
            task type does not fit the data.
    """
    config = _read(lora)
    _check_fields(config)
    if config.task_type not in (None, task_type):
        raise ModelError(
            f"lora.task_type={_shown(config.task_type)} does not fit the data, which needs {task_type.value!r}. Leave "
            "it out."
        )
    config.task_type = task_type
    model = base.model
    check_names(config, model)
    check_rank(config, model)
    if new := saved_with(model, base.new, trained_wholes(config)):
        config.modules_to_save = [*(config.modules_to_save or []), *new]
        # A name with PEFT's root in it does not keep PEFT from adapting that module, too; a pattern of it does.
        rooted = [
            re.escape(name.partition(".")[2]) for name in new if PEFT_ROOT.endswith(f".{name.partition('.')[0]}.")
        ]
        if rooted and config.exclude_modules is None:
            config.exclude_modules = "|".join(rooted)
    config.base_model_name_or_path = base.source or None
    return config


def _read(lora: Any) -> LoraConfig:
    if isinstance(lora, LoraConfig):
        return copy.deepcopy(lora)
    if not isinstance(lora, Mapping):
        raise ModelError(f"lora={_shown(lora)} must be a peft.LoraConfig or a table of its fields, e.g. {{'r': 8}}.")
    fields = dict(lora)
    try:
        return LoraConfig(**{"lora_alpha": fields.get("r", 8), **fields})
    except Exception as error:  # PEFT looks into the fields, of whatever type they are
        reason = str(error).removeprefix("LoraConfig.__init__() ").rstrip(".")
        raise ModelError(f"lora={_shown(lora)}: {reason}. Its fields are those of peft.LoraConfig.") from error


def _check_fields(config: LoraConfig) -> None:
    """Checks the fields that PEFT takes as they come, and keeps numbers as Python's own, which JSON knows.

    Those that are not supported at all are `check_lora`'s to name.
    """
    config.r = _rank("r", config.r)
    config.lora_alpha = _number("lora_alpha", config.lora_alpha)  # type: ignore[assignment]  # PEFT takes any number
    config.rank_pattern = _table("rank_pattern", config.rank_pattern, _rank)
    config.alpha_pattern = _table("alpha_pattern", config.alpha_pattern, _number)
    if not _is_number(config.lora_dropout) or not 0 <= config.lora_dropout < 1:
        _refuse("lora_dropout", config.lora_dropout, "a number of at least 0 and below 1")
    config.lora_dropout = float(config.lora_dropout)
    for field in _SWITCHES:
        if not isinstance(getattr(config, field), bool):
            _refuse(field, getattr(config, field), "true or false")
    for field in _NAMES:
        _check_texts(field, getattr(config, field), one=field != "modules_to_save")
    for field in _PATTERNS:
        if isinstance(value := getattr(config, field), str):
            _compile(field, value)
    layers = config.layers_to_transform
    if isinstance(layers, list | tuple):
        config.layers_to_transform = [_layer(layer) for layer in layers]
    elif layers is not None:
        config.layers_to_transform = _layer(layers)


def _layer(value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        _refuse("layers_to_transform", value, "the number of a layer, or a list of them")
    return int(value)


def _rank(field: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        _refuse(field, value, "a whole number of at least 1")
    return int(value)


def _number(field: str, value: Any) -> int | float:
    if not _is_number(value) or value <= 0:
        _refuse(field, value, "a finite number above 0")
    return int(value) if isinstance(value, Integral) else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _table(field: str, value: Any, check: Callable[[str, Any], Any]) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        _refuse(field, value, "a table of module names with their values")
    for name in value or ():
        _compile(field, name)
    return {name: check(f"{field}[{_shown(name)}]", number) for name, number in (value or {}).items()}


def _check_texts(field: str, value: Any, *, one: bool) -> None:
    listed = isinstance(value, list | tuple | set | frozenset) and all(isinstance(v, str) and v for v in value)
    if value is not None and not listed and not (one and isinstance(value, str) and value):
        _refuse(field, value, "a name or a list of names" if one else "a list of names")


def _compile(field: str, pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"lora.{field}={_shown(pattern)} is not a regular expression: {error}. Give names of modules as a list, or "
            "correct the expression."
        ) from error


def _refuse(field: str, value: Any, wanted: str) -> NoReturn:
    raise ModelError(f"lora.{field}={_shown(value)} must be {wanted}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
