"""Surgery: PEFT decides what is adapted; its layers are then exchanged for batched ones, and back."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import Conv1D, PreTrainedModel

from declora import process
from declora.errors import ModelError
from declora.model.batched import BatchedLinear, BatchedLora
from declora.model.batched_norm import BatchedNorm
from declora.model.frozen import FrozenLinear
from declora.model.layout import Layout
from declora.model.owners import RowOwners
from declora.model.targets import PEFT_ROOT, choose_targets, linear_layers, trained_wholes

__all__ = ["Slot", "Surgery", "check_lora", "wrap"]

# What batched layers honour. Any other field of a LoraConfig must keep its default: a new PEFT feature is refused by
# name, never silently ignored.
_SUPPORTED = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora",
    "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
    "megatron_core",
}  # fmt: skip
_SUPPORTED_INIT = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True)
class Slot:
    """One parameter of one batched layer and the block of the layout that fills it."""

    layer: nn.Module
    attribute: str
    block: str


def check_lora(config: LoraConfig) -> None:
    """Raises ModelError where `config` asks for what batched adapters do not do, naming the field and the fix."""
    default = LoraConfig().to_dict()
    for field, value in config.to_dict().items():
        if field not in _SUPPORTED and value not in (default.get(field), None):
            raise ModelError(
                f"lora.{field}={value!r} is not supported: clients are trained as plain LoRA over one frozen base. "
                f"Leave lora.{field} at its default ({default.get(field)!r})."
            )
    if config.init_lora_weights not in _SUPPORTED_INIT:
        raise ModelError(
            f"lora.init_lora_weights={config.init_lora_weights!r} is not supported: it rewrites the base, which "
            "all clients share. Use True, 'gaussian' or 'orthogonal'."
        )
    ranks = {"r": config.r, **{f"rank_pattern[{k!r}]": v for k, v in (config.rank_pattern or {}).items()}}
    for field, rank in ranks.items():
        if rank < 1:
            raise ModelError(f"lora.{field}={rank} must be at least 1.")


def _check_trained(model: nn.Module, config: LoraConfig) -> None:
    """Refuses to train whole modules that are stored in 4 bits, as PEFT finds them: by the end of their names."""
    trained = trained_wholes(config)
    for name, module in model.named_modules():
        stored = any(hasattr(parameter, "quant_state") for parameter in module.parameters())
        if stored and (PEFT_ROOT + name).endswith(trained):
            raise ModelError(
                f"module {name!r} is to be trained as a whole, but its weights are stored in 4 bits. Load the model "
                f"with quantization_config={{'llm_int8_skip_modules': [{name!r}]}}, or leave it out of "
                "lora.modules_to_save."
            )


class Surgery:
    """Puts batched layers into `model` in place of the modules that `config` targets; `undo` restores it.

    Attributes:
        layout: The columns, in PEFT's own order and under PEFT's own names.
        initial: float32 `[D]`, the adapter that PEFT initialised.
        slots: Every parameter of a batched layer with its block.
        config: The LoRA configuration as PEFT completed it, what `adapter_config.json` holds.
        notes: What a user of the adapters should know, whole sentences.
        undo: Gives the model its own layers back.
        redo: Puts the batched layers in again.
    """

    def __init__(self, model: PreTrainedModel, config: LoraConfig, owners: RowOwners, *, seed: int) -> None:
        check_lora(config)
        _check_trained(model, config)
        self.undo = _restorer(model)
        try:
            completed = copy.deepcopy(config)
            completed.base_model_name_or_path = None  # PEFT would put where the model lies on this machine
            wrapped = wrap(model, completed, seed)
            self.config = cast(LoraConfig, wrapped.peft_config["default"])
            self.config.base_model_name_or_path = config.base_model_name_or_path
            state = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            self.layout = Layout.of(state)
            self.initial = self.layout.flatten(state)
            _check_loads(wrapped, self.layout)
            self.slots: list[Slot] = []
            self._replace(wrapped.get_base_model(), owners, seed)
            if unknown := [block.name for block in self.layout if block.name not in {s.block for s in self.slots}]:
                raise ModelError(f"trained tensors {unknown} belong to layers that cannot be batched per client.")
            self.notes = tuple(
                f"{name} shares its weight with another layer: its adapters load with PEFT over the base, but must not "
                "be merged into it, which would change both."
                for name in _tied(model, self.slots)
            )
            self.redo = _restorer(model)
        except BaseException:
            self.undo()
            raise

    @property
    def scalings(self) -> NDArray[np.float64]:
        """What the product of each adapted layer is multiplied by, float64 `[L]` in the order of `layout.pairs`."""
        by_block = {slot.block: slot.layer.scaling for slot in self.slots if isinstance(slot.layer, BatchedLora)}
        return np.array([by_block[a.name] for _, a in self.layout.pairs], dtype=np.float64)

    def _replace(self, model: nn.Module, owners: RowOwners, seed: int) -> None:
        """Walks the wrapped model and exchanges PEFT's layers for batched ones over the same base layers."""
        found = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer | ModulesToSaveWrapper)]
        for name, module in found:
            if isinstance(module, ModulesToSaveWrapper):
                original = module.original_module
                _put(model, name, original)
                self._replace_head(model, name, original, owners)
            else:
                base = module.get_base_layer()
                _put(model, name, self._batch_lora(name, module, base, owners, seed))
        for name, module in list(model.named_modules()):
            if FrozenLinear.replaces(module):
                _put(model, name, FrozenLinear(module))

    def _batch_lora(self, name: str, module: Any, base: nn.Module, owners: RowOwners, seed: int) -> BatchedLora:
        if not (isinstance(base, nn.Linear | Conv1D) or hasattr(base, "in_features")):
            raise ModelError(
                f"target module {name!r} is a {type(base).__name__}; only linear layers (nn.Linear, Conv1D) can be "
                "adapted. Leave it out of lora.target_modules."
            )
        dropout = getattr(module.lora_dropout["default"], "p", 0.0)
        layer = BatchedLora(base, name, owners, scaling=module.scaling["default"], dropout=dropout, seed=seed)
        self.slots += [
            Slot(layer, "lora_a", f"{PEFT_ROOT}{name}.lora_A.weight"),
            Slot(layer, "lora_b", f"{PEFT_ROOT}{name}.lora_B.weight"),
        ]
        return layer

    def _replace_head(self, model: nn.Module, name: str, head: nn.Module, owners: RowOwners) -> None:
        """Exchanges every layer of a trained head; the head keeps its own forward."""
        for inner, module in list(head.named_modules()):
            if not list(module.parameters(recurse=False)):
                continue
            path = f"{name}.{inner}" if inner else name
            layer: BatchedLinear | BatchedNorm
            if isinstance(module, nn.Linear):
                layer = BatchedLinear(path, owners)
            elif isinstance(module, nn.LayerNorm):
                layer = BatchedNorm(module, path, owners)
            else:
                raise ModelError(
                    f"the trained module {name!r} holds a {type(module).__name__} ({path!r}); only linear layers and "
                    "layer norms can be trained per client. Leave it out of lora.modules_to_save, or where it is new, "
                    "give a checkpoint that has its weights."
                )
            self.slots.append(Slot(layer, "weight", f"{PEFT_ROOT}{path}.weight"))
            if module.bias is not None:
                self.slots.append(Slot(layer, "bias", f"{PEFT_ROOT}{path}.bias"))
            _put(model, path, layer)


def _tied(model: nn.Module, slots: list[Slot]) -> list[str]:
    """Returns the names of the adapted layers whose weight is another module's, too."""
    owners = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    layers = [slot.layer for slot in slots if isinstance(slot.layer, BatchedLora) and slot.attribute == "lora_a"]
    return [layer.name for layer in layers if owners[id(layer.base.weight)] > 1]


def _check_loads(wrapped: PeftModel, layout: Layout) -> None:
    """Checks that PEFT loads an adapter of these layers again: it renames some, and tells nobody what it did not find.

    Raises:
        ModelError: It does not, and what a run trains there would be lost.
    """
    given = torch.arange(layout.columns) % 251 + 1.0  # whole numbers that bfloat16 has, too
    set_peft_model_state_dict(wrapped, layout.unflatten(given))
    found = layout.flatten(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    lost = [block.name for block in layout if not torch.equal(*(x[block.start : block.stop] for x in (found, given)))]
    if lost:
        layers = sorted({name.removeprefix(PEFT_ROOT).partition(".lora_")[0] for name in lost})
        ends = sorted({".".join(name.split(".")[-2:]) for name in layers})
        raise ModelError(
            f"PEFT does not load adapters of {type(wrapped.get_base_model()).__name__}'s {layers[0]} again, nor of "
            f"{len(layers) - 1} other layers. Leave them out: lora.exclude_modules={ends}."
        )


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _restorer(model: nn.Module) -> Callable[[], None]:
    """Returns what gives `model` back the modules and trainable flags that it has now, without PEFT's mark."""
    modules = [(parent, list(parent.named_children())) for parent in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]

    def restore() -> None:
        for parent, children in modules:
            for name, child in children:
                setattr(parent, name, child)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        if hasattr(model, "peft_config"):
            del model.peft_config

    return restore


def wrap(model: PreTrainedModel, config: LoraConfig, seed: int) -> PeftModel:
    """Returns `model` under PEFT, its adapter initialised from `seed` without touching the global generator."""
    wanted = config.target_modules
    choose_targets(config, model)
    linear = sorted({name.rpartition(".")[2] for name in linear_layers(model, config)})
    with process.seeded(seed), warnings.catch_warnings():
        # PEFT corrects fan_in_fan_out for Conv1D by itself; and what it and transformers will do otherwise some day is
        # no user's concern. What else they warn of is.
        for message, category in (("fan_in_fan_out", Warning), ("", FutureWarning), ("", DeprecationWarning)):
            warnings.filterwarnings("ignore", message=message, category=category)
        try:
            return get_peft_model(model, config)
        except Exception as error:  # it looks at names, shapes and kinds of layers without a common error for them
            asked = wanted if isinstance(wanted, str | None) else ", ".join(sorted(wanted))
            raise ModelError(
                f"lora.target_modules={asked} cannot be applied to {type(model).__name__}: {error} "
                f"Choose from its linear layers, {', '.join(linear)}, or 'all-linear' for all of them."
            ) from error
