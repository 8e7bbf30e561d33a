"""Weights that a checkpoint does not give: what of a model is new, and so is trained whole and saved with each adapter.

An adapter is worth what it says only over the base that it was trained on. Whatever transformers drew at random while
loading is another draw at the next loading, so it goes with the adapter (PEFT's `modules_to_save`), or is refused.
"""

from collections.abc import Iterable, Sequence

from torch import nn
from transformers import PreTrainedModel

from declora.errors import ModelError
from declora.model.checkpoint import Lacking
from declora.model.targets import PEFT_ROOT

__all__ = ["check_same_shapes", "new_modules", "saved_with"]

# The one part of a backbone that checkpoints of other tasks leave out: what reads a classifier's first token.
_POOLER = "pooler"


def new_modules(model: PreTrainedModel, lacking: Lacking, source: str) -> tuple[str, ...]:
    """Returns the modules of `model` all of whose weights are new, the outermost ones, in the model's order.

    Args:
        model: Loaded.
        lacking: What its checkpoint does not give.
        source: The checkpoint, for messages.

    Raises:
        ModelError: A weight of the backbone is new: a base that is random in part is no base.
    """
    new = [name for name, _ in model.named_parameters(remove_duplicate=False) if name in lacking.names]
    backbone = model.base_model_prefix if model.base_model is not model else ""
    for name in new:
        inside = not backbone or name.startswith(f"{backbone}.")
        if inside and _POOLER not in name.split("."):
            raise ModelError(_not_the_base(model, name, lacking, source))
    return tuple(dict.fromkeys(_outermost(model, name, set(new)) for name in new))


def check_same_shapes(lacking: Lacking, source: str, classes: int) -> None:
    """Raises ModelError where the checkpoint has a weight of another shape, as of a head for other `classes`."""
    for name, (there, here) in sorted(lacking.mismatched.items()):
        if there[1:] == here[1:] and here[0] == classes:
            raise ModelError(
                f"model={source!r} has a head for {there[0]} classes, the data has {classes}. Give the model that it "
                f"was trained from; or for a new head over this one, load it with num_labels={classes}, "
                "ignore_mismatched_sizes=True, and pass the loaded model."
            )
        raise ModelError(
            f"model={source!r}: weight {name!r} is {_shape(there)} in the checkpoint, and {_shape(here)} in the model "
            "that its config.json describes. Give a checkpoint whose files belong together."
        )


def saved_with(model: nn.Module, modules: Iterable[str], saved: Sequence[str]) -> list[str]:
    """Returns the names by which PEFT finds those of `modules` that it does not train already because of `saved`.

    PEFT compares the ends of names, so a short name (`dense`) is written with what PEFT puts before it.

    Raises:
        ModelError: The name cannot be told from others.
    """
    names = [PEFT_ROOT + name for name, _ in model.named_modules()]
    found = []
    for module in modules:
        parts = module.split(".")
        if any(".".join(parts[:end]).endswith(tuple(saved)) for end in range(1, len(parts) + 1)):
            continue
        written = [module, f"{PEFT_ROOT.split('.')[1]}.{module}"]
        unique = [name for name in written if sum(other.endswith(name) for other in names) == 1]
        if not unique:
            raise ModelError(
                f"the new module {module!r} of {type(model).__name__} cannot be saved with an adapter: other modules' "
                "names end like it. Give a checkpoint that has its weights."
            )
        found.append(unique[0])
    return found


def _outermost(model: nn.Module, name: str, new: set[str]) -> str:
    """Returns the outermost module around the weight `name` that has nothing but new weights."""
    module = name.rpartition(".")[0]
    while outer := module.rpartition(".")[0]:
        around = model.get_submodule(outer).named_parameters(outer, remove_duplicate=False)
        if not all(other in new for other, _ in around):
            break
        module = outer
    return module


def _not_the_base(model: PreTrainedModel, name: str, lacking: Lacking, source: str) -> str:
    kind, count = type(model).__name__, len(lacking.names)
    if name in lacking.mismatched:
        there, here = lacking.mismatched[name]
        return (
            f"model={kind}: weight {name!r} is {_shape(here)}, and {_shape(there)} in its checkpoint {source!r}, which "
            "adapters would name as their base. Save the model as it is (`model.save_pretrained(path)`) and pass path."
        )
    others = f" and {count - 1} more" if count > 1 else ""
    return (
        f"model={source!r} lacks the weight {name!r}{others} of {kind}, so that its base would be random in part. Give "
        "a whole checkpoint of that kind of model."
    )


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes) or "a number"
