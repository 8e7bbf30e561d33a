"""Where a base model comes from: the user's hands, a checkpoint, or a configuration alone."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from declora import process
from declora.errors import ModelError
from declora.model import checkpoint
from declora.model.check import check_class_names
from declora.model.checkpoint import Lacking
from declora.model.minilm import MINILM_HUB, minilm
from declora.model.new_weights import check_same_shapes, new_modules
from declora.model.quantized import keep_head
from declora.model.targets import SAVED_HEADS
from declora.model.unchanged import changed_weight

__all__ = ["Found", "Wanted", "from_checkpoint", "from_config", "is_config_file", "passed_in"]


@dataclass(frozen=True)
class Wanted:
    """What a run asks of its base."""

    task: Literal["classification", "causal-lm"]
    label_names: tuple[str, ...]
    dtype: torch.dtype | None
    """None: float32, or what a loaded model has."""
    quantization: BitsAndBytesConfig | None
    trust_remote_code: bool
    device: torch.device
    seed: int

    @property
    def labels(self) -> dict[str, Any]:
        """Settings of the head."""
        return checkpoint.class_settings(self.label_names) if self.task == "classification" else {}


@dataclass(frozen=True)
class Found:
    """A model, and what is known of where it came from."""

    model: PreTrainedModel
    name: str
    """What messages call it."""
    source: str
    """What `adapter_config.json` names as the base: hub id or path; empty where there is none."""
    place: str
    """Where its tokenizer may lie; empty where nobody knows."""
    new: tuple[str, ...] = ()
    """Modules that its checkpoint does not give."""
    notes: tuple[str, ...] = ()


def is_config_file(model: str) -> bool:
    """Whether `model` is the path of a `config.json`, which stands for an architecture."""
    return Path(model).name.endswith(".json") and Path(model).is_file()


def passed_in(model: PreTrainedModel, wanted: Wanted) -> Found:
    """Returns a loaded model as it is.

    Raises:
        ModelError: It has another dtype or other classes, or is not what its checkpoint holds.
    """
    kind, place = type(model).__name__, str(model.config._name_or_path or "")
    if wanted.dtype is not None and model.dtype != wanted.dtype:
        dtype = str(wanted.dtype).removeprefix("torch.")
        raise ModelError(f"dtype={dtype!r}, but the model passed in is {model.dtype}. Load it with dtype={dtype!r}.")
    if wanted.task == "classification" and model.config.num_labels != len(wanted.label_names):
        count = len(wanted.label_names)
        raise ModelError(
            f"model={kind} has a head for {model.config.num_labels} classes, the data has {count} "
            f"({', '.join(wanted.label_names)}). Load it with num_labels={count}."
        )
    new = new_modules(model, checkpoint.lacking(model), place)
    notes = _notes(place or kind, new, model.config, wanted)
    if changed := changed_weight(model, place):
        note = (
            f"{kind} is not what {place!r} holds any more ({changed} was changed), so adapters name no base: save it "
            "(`model.save_pretrained(path)`), and load them over that."
        )
        return Found(model, kind, "", place, new, (*notes, note))
    return Found(model, kind, place, place, new, notes)


def from_config(config: str | PretrainedConfig, wanted: Wanted) -> Found:
    """Returns a model of that architecture, every weight drawn from the seed.

    Raises:
        ModelError: No model for the task can be made of it.
    """
    if isinstance(config, str):
        name, place = config, str(Path(config).parent)
    else:
        name, place = config._name_or_path or type(config).__name__, config._name_or_path
    trust = {"trust_remote_code": wanted.trust_remote_code}
    failure = f"model={name!r}: no {wanted.task} model can be made from this configuration"
    fix = "Give the config.json of a model that transformers knows, or a PretrainedConfig."
    with checkpoint.reported(failure, name, fix=fix), process.seeded(wanted.seed):
        loaded = AutoConfig.from_pretrained(config, **trust) if isinstance(config, str) else copy.deepcopy(config)
        loaded.update(wanted.labels)
        model = checkpoint.auto_class(wanted.task).from_config(loaded, dtype=wanted.dtype or torch.float32, **trust)
    note = f"Every weight of {name!r} is drawn from the seed: a configuration has none of its own."
    return Found(model, name, name if isinstance(config, str) else "", place, notes=(note,))


def from_checkpoint(model: str, wanted: Wanted) -> Found:
    """Returns the model at a path or of a hub id; what its checkpoint lacks of the head is drawn from the seed.

    Raises:
        ModelError: It cannot be loaded, is not for the task, or has a head for other classes.
    """
    path, source = (minilm(), MINILM_HUB) if model == "minilm" else (model, model)
    trust = wanted.trust_remote_code
    config = checkpoint.load_config(path, model, trust_remote_code=trust)
    if wanted.task == "causal-lm" and config.is_encoder_decoder:
        raise ModelError(
            f"model={model!r} is a {config.model_type}, which writes an answer to a text but does not continue it. Use "
            "a decoder (GPT-2, Llama), or data with labels."
        )
    settings = {**wanted.labels, "dtype": wanted.dtype or torch.float32, "trust_remote_code": trust}
    if wanted.quantization is not None:
        packed = getattr(config, "quantization_config", None) is not None  # its own settings hold then
        how = wanted.quantization if packed else _kept_whole(path, model, wanted)
        settings |= {"quantization_config": how, "device_map": {"": wanted.device}}
    with process.seeded(wanted.seed, wanted.device):
        loaded, lacking = checkpoint.load_weights(path, model, wanted.task, **settings)
    new = _new(loaded, lacking, model, wanted)
    return Found(loaded, model, source, path, new, _notes(model, new, config, wanted))


def _kept_whole(path: str, name: str, wanted: Wanted) -> BitsAndBytesConfig:
    """Returns how to quantize the model at `path`: what is new of it is trained, and so left in its dtype."""
    assert wanted.quantization is not None
    shape, lacking = checkpoint.load_weights(
        path, name, wanted.task, device_map="meta", trust_remote_code=wanted.trust_remote_code, **wanted.labels
    )
    return keep_head(wanted.quantization, shape, new=_new(shape, lacking, name, wanted))


def _new(model: PreTrainedModel, lacking: Lacking, name: str, wanted: Wanted) -> tuple[str, ...]:
    """Returns the new modules of a model that was loaded as a checkpoint describes it."""
    check_same_shapes(lacking, name, len(wanted.label_names))
    return new_modules(model, lacking, name)


def _notes(source: str, new: tuple[str, ...], config: PretrainedConfig, wanted: Wanted) -> tuple[str, ...]:
    """Returns what a run should say of the new modules, or of a head that is kept, whose classes `config` names."""
    notes = []
    if any(not name.endswith(SAVED_HEADS) for name in new):
        notes.append(
            f"{source!r} has no weights for {', '.join(new)}: they are drawn at random, trained whole, and saved with "
            "each adapter."
        )
    if wanted.task == "classification" and not new:
        notes.append(
            check_class_names({int(i): name for i, name in (config.id2label or {}).items()}, wanted.label_names, source)
            or ""
        )
    return tuple(note for note in notes if note)
