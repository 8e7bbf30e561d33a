"""The frozen base model: from the hub, a folder, a PyPI package, or the user's hands."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from declora import process
from declora.errors import ConfigError, ModelError, unknown_name
from declora.model.borrowed import borrowed
from declora.model.check import check_task, check_weights
from declora.model.checkpoint import quiet
from declora.model.precision import check_choosable, faster_dtype
from declora.model.quantized import (
    check_readable,
    check_same,
    check_trainable,
    is_quantized,
    quantization_of,
    quantize,
)
from declora.model.sources import Wanted, from_checkpoint, from_config, is_config_file, passed_in
from declora.model.storage import Storage
from declora.model.tokenizer import find_tokenizer

__all__ = ["DTYPES", "BaseModel", "load_base"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class BaseModel:
    """A base model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """Hub id or path: what `adapter_config.json` names as the base; empty where there is none."""
    device: torch.device
    """Where it is trained."""
    new: tuple[str, ...] = ()
    """Modules that the checkpoint does not give: trained whole, and saved with each adapter."""
    pad_id: int | None = None
    """The token that fills short rows, where the model has to know of it."""
    notes: tuple[str, ...] = ()
    """What was taken for granted in loading it, whole sentences."""

    @property
    def storage(self) -> Storage:
        """How the weights are held, and in how many bytes."""
        return Storage.of(self.model)

    def lent(self) -> AbstractContextManager[None]:
        """Has the model on its device and in evaluation mode, and gives it back as it came."""
        return borrowed(self.model, device=self.device, pad_id=self.pad_id)


def load_base(
    model: str | Path | PreTrainedModel | PretrainedConfig,
    *,
    task: Literal["classification", "causal-lm"],
    label_names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | str | Path | None = None,
    dtype: str | None = None,
    load_in_4bit: bool = False,
    quantization_config: Any = None,
    trust_remote_code: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> BaseModel:
    """Returns the base model for `task`, what is new of it drawn from `seed`.

    Args:
        model: Hub id, path of a saved model, `"minilm"` (all-MiniLM-L6-v2), or a loaded `PreTrainedModel`, which is
            left as it is. Or an architecture with random weights, drawn from `seed`: a `PretrainedConfig`, or the path
            of a `config.json` itself (its folder may hold the tokenizer).
        task: Which head: sequence classification or next-token prediction.
        label_names: Class names (classification).
        tokenizer: An object, path or hub id; taken from the model's own source where None.
        dtype: `"float32"` (None), `"bfloat16"` or `"float16"`, of the frozen base; a model passed in must have it
            already. `"auto"`: the faster of the first two on the device, as it is measured then.
        load_in_4bit: Whether the linear layers of the backbone are held in 4 bits; `dtype` is that of the rest then.
        quantization_config: How: a `BitsAndBytesConfig` or a table of its fields (see `quantization_of`).
        trust_remote_code: Whether Python code that comes with the model or tokenizer may run.
        device: `"auto"` (a GPU where there is one), `"cpu"`, `"cuda"`, `"cuda:1"` ...
        seed: Of the new head, and of random weights.

    Raises:
        ModelError: The model or tokenizer cannot be loaded, or does not fit the task; bitsandbytes is missing.
        ConfigError: Unknown dtype, device or quantization.
    """
    if dtype is not None and dtype not in (*DTYPES, "auto"):
        raise unknown_name("dtype", dtype, (*DTYPES, "auto"))
    target = resolve_device(device)
    quantization = quantization_of(load_in_4bit, quantization_config, target)
    said: tuple[str, ...] = ()
    if dtype == "auto":
        check_choosable(loaded=isinstance(model, PreTrainedModel), quantized=quantization is not None)
        dtype, note = faster_dtype(target)
        said = (note,)
    wanted = Wanted(
        task,
        tuple(label_names),
        DTYPES[dtype] if dtype is not None else None,
        quantization,
        trust_remote_code,
        target,
        seed,
    )
    if isinstance(model, PreTrainedModel):
        check_weights(model)
        found = passed_in(model, wanted)
    elif isinstance(model, PretrainedConfig):
        found = from_config(model, wanted)
    elif isinstance(model, str | Path):
        found = (from_config if is_config_file(str(model)) else from_checkpoint)(str(model), wanted)
        check_weights(found.model)
    else:
        raise ModelError(
            f"model is a {type(model).__name__}. Give a hub id, a path, a PreTrainedModel or its configuration (of a "
            "PeftModel what `merge_and_unload()` returns)."
        )
    loaded = found.model
    if quantization is not None:
        if not is_quantized(loaded):
            with quiet():
                loaded = quantize(loaded, quantization, target, new=found.new)
        elif quantization_config is not None:
            check_same(loaded, quantization)
    check_trainable(loaded)
    check_readable(loaded)
    check_task(loaded, task)
    own = find_tokenizer(tokenizer, found.place, found.name, trust_remote_code=trust_remote_code)
    if loaded is not model:  # what is lent is moved for the time of a run
        torch.nn.Module.to(loaded, target)
        loaded.eval()
    return BaseModel(loaded, own, found.source, target, found.new, notes=(*found.notes, *said))


def resolve_device(device: str) -> torch.device:
    """Returns the torch device of a setting; `"auto"` is a GPU, else the CPU.

    Of several GPUs, a rank takes the one of its number on its machine where none is named; else it is the first.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available():
        number = process.local_rank() % torch.cuda.device_count()
        return torch.device("cuda", number) if number else torch.device("cuda")  # as who runs alone calls it
    if device == "auto":
        return torch.device("cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r} is not a torch device. Use 'auto', 'cpu', 'cuda' or 'cuda:N'.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device!r}: torch sees no CUDA GPU here. Use device='cpu' or 'auto'.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ConfigError(f"device={device!r}: the last of the GPUs that torch sees here is 'cuda:{last}'. Use that.")
    return found
