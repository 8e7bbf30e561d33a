"""Whether the names in a LoRA configuration are names of the model's modules.

PEFT is content if one of several names is found, so that a slip of the pen trains less than was asked for, or more.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable

from peft import LoraConfig
from torch import nn
from transformers import Conv1D, PreTrainedModel

from declora.errors import ModelError
from declora.model.targets import PEFT_ROOT, adapted_layers, is_all_linear, trained_wholes

__all__ = ["check_names", "check_rank"]


def check_names(config: LoraConfig, model: PreTrainedModel) -> None:
    """Checks that each name and pattern of `config` finds a module of `model`, by PEFT's rules.

    Raises:
        ModelError: One finds none; it is named, with the nearest name that there is.
    """
    modules = [name for name, _ in model.named_modules() if name]
    adapted = adapted_layers(config, model)
    for field in ("target_modules", "exclude_modules"):
        wanted = getattr(config, field)
        if isinstance(wanted, str):
            if not is_all_linear(wanted) and not any(re.fullmatch(wanted, name) for name in modules):
                raise ModelError(_not_found(field, wanted, model, modules))
        else:
            _check_each(field, wanted or (), model, modules, lambda wanted, name: f".{name}".endswith(f".{wanted}"))
    rooted = [PEFT_ROOT + name for name in modules]
    _check_each(
        "modules_to_save", config.modules_to_save or (), model, rooted, lambda wanted, name: name.endswith(wanted)
    )
    _check_nested(config, modules)
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = getattr(config, field) or ()
        _check_each(field, patterns, model, adapted, lambda wanted, name: re.match(rf"(.*\.)?({wanted})$", name))
    layers = [config.layers_pattern] if isinstance(config.layers_pattern, str) else config.layers_pattern or ()
    _check_each(
        "layers_pattern", layers, model, modules, lambda wanted, name: re.match(rf"(.*\.)?{wanted}\.\d+\.", name)
    )
    _check_layers(config, model, adapted)


def check_rank(config: LoraConfig, model: nn.Module) -> None:
    """Refuses a rank that no layer of `model` can have: more than its rows and more than its columns.

    Raises:
        ModelError: There is such a rank.
    """
    sizes = [size for m in model.modules() if isinstance(m, nn.Linear) for size in (m.in_features, m.out_features)]
    sizes += [size for m in model.modules() if isinstance(m, Conv1D) for size in m.weight.shape]
    largest = max(sizes, default=math.inf)
    ranks = {"r": config.r, **{f"rank_pattern[{name!r}]": rank for name, rank in (config.rank_pattern or {}).items()}}
    for field, rank in ranks.items():
        if rank > largest:
            raise ModelError(
                f"lora.{field}={rank} is more than the rows and columns of any layer of {type(model).__name__} "
                f"({largest} at most). 8 to 64 are usual."
            )


def _check_nested(config: LoraConfig, modules: list[str]) -> None:
    """Checks that no module to save is in another that is trained as a whole: PEFT would wrap it twice."""
    wholes, named = trained_wholes(config), tuple(config.modules_to_save or ())
    outer = {name for name in modules if (PEFT_ROOT + name).endswith(wholes)}
    for name in modules:
        around = next((whole for whole in outer if name.startswith(f"{whole}.")), None)
        if around is not None and named and (PEFT_ROOT + name).endswith(named):
            raise ModelError(
                f"lora.modules_to_save: {name!r} is in {around!r}, which is trained as a whole anyway. Leave it out, "
                "or name it so that it is not meant (by more of its path)."
            )


def _check_layers(config: LoraConfig, model: nn.Module, adapted: list[str]) -> None:
    """Checks that each layer of `layers_to_transform` has a module that is adapted."""
    layers = config.layers_to_transform
    for layer in layers if isinstance(layers, list) else [] if layers is None else [layers]:
        if not any(re.search(rf"\.{layer}\.", name) for name in adapted):
            raise ModelError(
                f"lora.layers_to_transform={layer}: no target module of {type(model).__name__} is in a layer of that "
                "number. Layers count from 0; leave out what there is not."
            )


def _check_each(
    field: str,
    wanted: Iterable[str],
    model: nn.Module,
    names: list[str],
    finds: Callable[[str, str], object],
) -> None:
    for name in sorted(wanted):
        if not any(finds(name, other) for other in names):
            raise ModelError(_not_found(field, name, model, names))


def _not_found(field: str, name: str, model: nn.Module, names: list[str]) -> str:
    known = sorted({part for other in names for part in (other.rpartition(".")[2],) if not part.isdigit()})
    near = difflib.get_close_matches(name.rpartition(".")[2], known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(known[:30]) + ", ..." * (len(known) > 30)
    module = "adapted module" if field.endswith("_pattern") and field != "layers_pattern" else "module"
    return (
        f"lora.{field}: {name[:80]!r} is no {module} of {type(model).__name__}.{hint} Its {module}s are named {shown}."
    )
