"""Whether a base model can be what a run needs: its weights, its task, the classes of its head."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED_LM_TYPES

from declora.errors import ModelError

__all__ = ["check_class_names", "check_task", "check_weights"]

_NO_NAME = re.compile(r"label_\d+")


def check_weights(model: PreTrainedModel) -> None:
    """Checks that the weights of `model` can be a frozen base.

    Raises:
        ModelError: It carries an adapter, or a weight is not loaded, an inference tensor, or not finite.
    """
    kind = type(model).__name__
    if hasattr(model, "peft_config") or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ModelError(
            f"model={kind} carries an adapter of PEFT already, and clients start from adapters of their own. Merge it "
            "first: pass what `merge_and_unload()` of its PeftModel returns (or `unload()`, to drop it)."
        )
    for name, weight in model.named_parameters():
        if weight.is_meta:
            raise ModelError(f"model={kind}: weight {name!r} is not loaded (it is on the meta device). Load it whole.")
        if weight.is_inference():
            raise ModelError(
                f"model={kind} was loaded inside torch.inference_mode(), and gradients cannot pass its weights. Load "
                "it outside."
            )
        # A sum is not finite where a value is not, and takes no second array of the weight's size.
        if weight.is_floating_point() and not bool(weight.detach().sum().isfinite()) and not _finite(weight):
            raise ModelError(
                f"model={kind}: weight {name!r} has values that are not finite numbers (NaN or infinity). Give a "
                "checkpoint that is whole; a file that was cut off or converted badly looks like this."
            )


def _finite(weight: torch.Tensor) -> bool:
    return bool(weight.detach().isfinite().all())


def check_task(model: PreTrainedModel, task: str) -> None:
    """Refuses an encoder for next-token prediction: it sees the token that it should predict."""
    if (
        task == "causal-lm"
        and model.config.model_type in MASKED_LM_TYPES
        and not getattr(model.config, "is_decoder", False)
    ):
        raise ModelError(
            f"model={type(model).__name__} is an encoder and cannot continue text. Use a decoder (GPT-2, Llama), or "
            "data with labels."
        )


def check_class_names(names: Mapping[int, Any], label_names: Sequence[str], source: str) -> str | None:
    """Compares the classes of a head that is kept with those of the data, by their names.

    Args:
        names: Name of each class of the head (`config.id2label`).
        label_names: Names of the data's classes.
        source: Whose head, for messages.

    Returns:
        What the run should say where the names are others, None where there is nothing to say.

    Raises:
        ModelError: The same names are in another order: each class would be taken for another.
    """
    head = [str(names.get(i, f"LABEL_{i}")) for i in range(len(label_names))]
    ours, theirs = ([name.strip().casefold() for name in part] for part in (label_names, head))
    if ours == theirs or any(_NO_NAME.fullmatch(name) for name in theirs):
        return None
    shown = (", ".join(name[:30] for name in part[:6]) + ", ..." * (len(part) > 6) for part in (head, label_names))
    head_names, data_names = shown
    if sorted(ours) == sorted(theirs):
        raise ModelError(
            f"model={source!r} has the classes {head_names}, in this order; the data has them as {data_names}. Number "
            "the data's classes as the model does (datasets.ClassLabel(names=[...])), or give the model without its "
            "head."
        )
    return (
        f"The head of {source!r} was trained for the classes {head_names}; training goes on from it for the data's "
        f"classes {data_names}, in this order."
    )
