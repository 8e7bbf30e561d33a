"""The LoRA configuration of a run: what the setting `lora` says, checked field by field and completed for the model."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, TaskType

from declora.errors import ConfigError, ModelError, shown
from declora.kinds import LORA_FIELDS
from declora.model.load import BaseModel
from declora.model.lora_names import check_names, check_rank
from declora.model.new_weights import saved_with
from declora.model.ranks import at_rank
from declora.model.targets import PEFT_ROOT, trained_wholes

__all__ = ["adapter_config"]

_NEEDED = ("r", "lora_alpha", "lora_dropout")
"""Fields that cannot be without a value."""


def adapter_config(
    lora: LoraConfig | Mapping[str, Any],
    base: BaseModel,
    task_type: TaskType,
    rank: int | None = None,
    *,
    spare: int = 0,
) -> LoraConfig:
    """Returns the `LoraConfig` of a run over `base`, its task type, targets and new modules filled in.

    Args:
        lora: A `LoraConfig`, left as it is, or a table of its fields; `lora_alpha` is r where the table has none.
        base: What is adapted.
        task_type: That of the data.
        rank: Takes the place of r, at the same scale; None: r.
        spare: Further components, at the same scale.

    Raises:
        ModelError: A field is unknown, has a value that it cannot have, or names what the model does not have; or the
            task type does not fit the data.
    """
    config = _read(lora)
    _check_fields(config)
    if rank is not None or spare:
        config = at_rank(config, (config.r if rank is None else rank) + spare)
    if config.task_type not in (None, task_type):
        raise ModelError(
            f"lora.task_type={shown(config.task_type)} does not fit the data, which needs {task_type.value!r}. Leave "
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
        raise ModelError(f"lora={shown(lora)} must be a peft.LoraConfig or a table of its fields, e.g. {{'r': 8}}.")
    fields = dict(lora)
    try:
        return LoraConfig(**{"lora_alpha": fields.get("r", 8), **fields})
    except Exception as error:  # PEFT looks into the fields, of whatever type they are
        reason = str(error).removeprefix("LoraConfig.__init__() ").rstrip(".")
        raise ModelError(f"lora={shown(lora)}: {reason}. Its fields are those of peft.LoraConfig.") from error


def _check_fields(config: LoraConfig) -> None:
    """Checks the fields that PEFT takes as they come, and keeps them as Python's own, which JSON knows.

    Those that are not supported at all are `check_lora`'s to name.
    """
    for field, kind in LORA_FIELDS.items():
        value = getattr(config, field)
        if value is None and field not in _NEEDED:
            continue
        try:
            checked = kind.check(f"lora.{field}", value)
        except ConfigError as error:
            raise ModelError(str(error)) from None
        setattr(config, field, set(checked) if isinstance(value, set) else checked)  # as PEFT keeps names
