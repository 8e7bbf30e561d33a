"""Which modules get adapters, where the LoRA configuration leaves that open."""

import copy

import torch
from peft import LoraConfig, TaskType
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_TARGETS
from torch import nn
from transformers import Conv1D, PreTrainedModel

from declora.errors import ModelError

__all__ = [
    "PEFT_ROOT",
    "SAVED_HEADS",
    "adapted_layers",
    "choose_targets",
    "is_all_linear",
    "linear_layers",
    "trained_wholes",
]

PEFT_ROOT = "base_model.model."
"""What PEFT puts before the names of a model's modules."""
SAVED_HEADS = ("classifier", "score")
"""How the names of modules end that PEFT trains and saves of any classifier."""
# PEFT refuses to adapt the first in the second, whose fused kernels read its weight and pass the adapter by.
_MAMBA_OUTPUT, _MAMBA = "out_proj", {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}


def trained_wholes(config: LoraConfig) -> tuple[str, ...]:
    """Returns how the names of modules end (`PEFT_ROOT` before them) that PEFT trains as a whole."""
    return (*(config.modules_to_save or []), *(SAVED_HEADS if config.task_type == TaskType.SEQ_CLS else []))


def linear_layers(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    """Returns the names of all linear layers, but for output embeddings and what is in modules trained as a whole.

    PEFT's own `"all-linear"` looks for such modules elsewhere than it finds them when it comes to train them: it adapts
    DistilBERT's `pre_classifier` and then fails to train it. And it adds experts, which are no linear layers.
    """
    wholes, output = trained_wholes(config), model.get_output_embeddings()
    whole = [(name, module) for name, module in model.named_modules() if (PEFT_ROOT + name).endswith(wholes)]
    left_out = {inner for name, module in whole for inner, _ in module.named_modules(prefix=name)}
    names = [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and module is not output and name not in left_out
    ]
    if model.config.model_type in _MAMBA:
        names = [name for name in names if name.rpartition(".")[2] != _MAMBA_OUTPUT]
    return _without_experts(names, model, config)


def _is_linear(module: nn.Module) -> bool:
    """Whether `module` is a linear layer, and does what one does: some routers are such layers and return choices."""
    if type(module) in (nn.Linear, Conv1D) or hasattr(getattr(module, "weight", None), "quant_state"):
        return True
    if not isinstance(module, nn.Linear):
        return False
    try:
        with torch.no_grad():
            found = module(module.weight.new_zeros(1, module.in_features))
    except Exception:  # it wants something else than vectors
        return False
    return isinstance(found, torch.Tensor) and found.shape == (1, module.out_features)


def choose_targets(config: LoraConfig, model: PreTrainedModel) -> None:
    """Completes `config.target_modules`: the usual ones of that kind of model, or all linear layers.

    Raises:
        ModelError: All linear layers are to be adapted, and there is none.
    """
    wanted, usual = config.target_modules, USUAL_TARGETS.get(model.config.model_type)
    if wanted is None and usual is not None:
        config.target_modules = usual if isinstance(usual, str) else list(usual)
        if any(check_target_module_exists(config, name) for name in linear_layers(model, config)):
            return
    if wanted is None or is_all_linear(wanted):
        config.target_modules = linear_layers(model, config)
        if not config.target_modules:
            raise ModelError(f"model={type(model).__name__} has no linear layer to adapt. Use another model.")


def is_all_linear(targets: object) -> bool:
    """Returns whether `target_modules` asks for all linear layers, by PEFT's word for it."""
    return isinstance(targets, str) and targets.lower() == "all-linear"


def adapted_layers(config: LoraConfig, model: PreTrainedModel) -> list[str]:
    """Returns the names of the linear layers that `config` adapts, as far as names decide."""
    completed = copy.deepcopy(config)
    choose_targets(completed, model)
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))
    return [name for name in linear if check_target_module_exists(completed, name)]


def _without_experts(names: list[str], model: PreTrainedModel, config: LoraConfig) -> list[str]:
    """Returns `names` without those that PEFT takes for experts of a mixture, which hold their weights in one array.

    From transformers 5 on, it takes layers of their names for them, too: it could not load an adapter of such a layer.
    """
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # a PEFT that does not know of them
        return names
    trial = copy.deepcopy(config)
    trial.target_modules = names
    try:
        convert_peft_config_for_transformers(trial, model, None)
    except ValueError:  # some of an expert's layers, not all of them: PEFT says which when it is to adapt them
        return names
    kept = set(trial.target_modules)
    return [name for name in names if name in kept]
