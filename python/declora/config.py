"""The configuration of a run: what `declora.simulate` takes, what `run.toml` holds, what the command line overrides."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from declora.errors import ConfigError, unknown_name
from declora.metrics import METRICS

__all__ = ["DEFAULT_LOCAL_STEPS", "SimulationConfig", "describe", "load_toml"]

DEFAULT_LOCAL_STEPS = 5
"""K where neither `local_steps` nor `local_epochs` is set."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Every setting of `declora.simulate`. The defaults are the embedded run, which needs no download."""

    model: Any = "minilm"
    """Hub id, path of a saved model, or a `PreTrainedModel`; "minilm" is all-MiniLM-L6-v2. The path of a config.json,
    or a `PretrainedConfig`: that architecture with random weights, drawn from the seed."""
    data: Any = "stdlib-docstrings"
    """A task ("sst2" from the hub, "sst2=PATH" from files), hub name ("name" or "name:config"), file(s), folder,
    `datasets.Dataset`/`DatasetDict`, or a list with one per client. Tasks: sst2, mrpc, cola, qnli, qqp, mnli, rte,
    boolq, wic, copa, ag_news, gsm8k."""
    clients: int = 10
    """Number of clients."""
    rounds: int = 20
    """Rounds of local steps and gossip (T)."""
    local_steps: int | None = None
    """Optimizer steps of each client in a round (K); none: as `local_epochs` says, 5 where that is none, too."""
    local_epochs: int | None = None
    """Passes of each client over its own data in a round, instead of `local_steps`: ceil(samples / batch_size) steps
    each, the last of a pass on what is left. A client that is done waits for the others."""
    topology: Any = "ring"
    """Name ("ring", "erdos-renyi:0.5" ...), `networkx` graph, mixing matrix (numpy, scipy), or `declora.Topology`."""
    codec: str = "q4"
    """none, fp16, bf16, q2..q8, qsgd, natural, eden, drive, randk; with a memory (+choco, +ef21, +ef) also sign, topk,
    powersgd; with options: "topk:fraction=0.01+choco", "q4:block=64"; with an entropy coder: "q2+rans"."""
    mixer: str = "linear"
    """linear, clipped[:f=1|:tau=X], trimmed-mean:f=1, median, krum:f=1, multi-krum:f=1,m=2, nna:f=1 (f: neighbours of a
    client that may be bad), or push-sum, for any strongly connected digraph."""
    lora: Any = field(default_factory=lambda: {"r": 8})
    """A `peft.LoraConfig`, or a table of its fields. lora_alpha defaults to r, so that the scale is 1;
    target_modules to PEFT's choice for the kind of model (query and value; q_proj and v_proj; c_attn ...), or where it
    has none to all linear layers."""
    partition: Any = None
    """iid, dirichlet:ALPHA, shards:S, labels:[[..], ..], quantity:ALPHA, column:NAME, or a table of proportions of the
    labels; none: natural where the data is a list with one per client, else iid."""
    method: str = "dec-lora"
    """dec-lora, centralized (pooled data, same total work), fedavg (exact average by a star), local (no gossip)."""
    compare: Any = None
    """Several runs from the same seeds: method names, each with overrides if need be ("dec-lora codec=none")."""
    seed: int = 0
    """Names every random choice of the run."""

    batch_size: int = 8
    """Samples of one client's local step."""
    learning_rate: float = 5e-3
    """Peak learning rate."""
    optimizer: str = "adamw"
    """adamw or sgd."""
    weight_decay: float = 0.0
    """Decoupled (adamw) or L2 (sgd)."""
    momentum: float = 0.0
    """Of sgd."""
    schedule: str = "linear"
    """linear (decay to 0), cosine or constant, over all local steps of the run."""
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises to its peak."""
    clip_norm: float | None = 1.0
    """Largest gradient norm of one client's step; none: no clipping."""
    reset_moments: bool = False
    """Whether every round starts with fresh optimizer moments."""
    base_dropout: bool = False
    """Whether the frozen base keeps its own dropout in training. LoRA dropout is as configured."""

    weights: str = "metropolis"
    """Mixing weights of a graph: metropolis, uniform (regular graphs), laplacian (the paper's: I - 2L/3lambda_max)."""
    gamma: float | None = None
    """Consensus step size; none: 1, or the codec's own where it has a memory."""

    attack: str | None = None
    """What some clients send instead of their adapter: sign-flip, alie, ipm, gaussian (all with :scale=S), mimic, nan,
    inf. The others are what is evaluated then; none: all are honest."""
    attackers: Any = 1
    """How many clients attack, chosen by the seed, or which ones ([3, 7])."""

    eval_data: Any = None
    """Data to evaluate on; none: the data's validation or test split, else a held-out `eval_fraction`."""
    eval_fraction: float = 0.1
    """Share held out where the data has no evaluation split."""
    eval_every: int = 5
    """Rounds between evaluations; the last round is always evaluated."""
    eval_samples: int | None = None
    """Samples the averaged model is evaluated on; none: all."""
    client_eval_samples: int | None = 200
    """Samples each client's own model is evaluated on (the same for all); none: all; 0: clients are not evaluated."""
    task: str | None = None
    """classification or causal-lm; none: classification where the data has labels."""
    metric: str | None = None
    """Headline metric: accuracy, f1 (of class 1; the mean over classes where there are more than two), matthews,
    perplexity, or exact_match (of generated answers, see max_new_tokens); none: the named task's own (f1 for mrpc,
    matthews for cola), else accuracy or perplexity."""
    text_columns: Any = None
    """Names of the text columns; none: found by their usual names."""
    label_column: str | None = None
    """Name of the label column; none: found by its usual names."""
    max_length: int = 128
    """Tokens after which a text is cut."""
    completion_column: str | None = None
    """Name of the column that continues the prompt in the text columns (causal-lm); none: found by its usual names."""
    prompt_template: str | None = None
    """How a prompt is written: a text with columns in braces ("Question: {question}\\nAnswer: "); "chat": as the user's
    turn in the tokenizer's chat template; none: the text columns, one a line."""
    completion_only_loss: bool = True
    """Whether only completions (in conversations the assistant's turns) are learned and scored, not prompts."""
    packing: bool = False
    """Whether texts of a client share rows of max_length tokens: prompts with their completions whole and without
    seeing each other, plain text as one stream cut into rows. batch_size then counts rows."""
    max_new_tokens: int = 0
    """Most tokens generated (greedily) to answer an evaluation prompt, for exact match; 0: no exact match."""

    tokenizer: Any = None
    """A tokenizer beside a loaded model; none: the model's own."""
    dtype: str | None = None
    """Of the frozen base: float32 or bfloat16; none: float32, or what a model passed in has. Adapters are float32."""
    load_in_4bit: bool = False
    """Whether the frozen base is held in 4 bits as in QLoRA (needs bitsandbytes): NF4, its scales quantized once more;
    `dtype` is that of its other weights. Adapters and messages are as without."""
    quantization_config: Any = None
    """How, where not as in QLoRA: a `transformers.BitsAndBytesConfig`, or a table of its fields."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N."""
    group_size: int | None = None
    """Clients computed together; none: chosen from the size of the model and batch."""
    unpad: bool = True
    """Whether the blocks of a classifier compute sequences without their padding, one token after another, in training
    and evaluation; on a CPU, and where the model allows it (which is measured)."""
    sort_by_length: bool = True
    """Whether, where padding stays, a group's sequences are sorted by length across clients and computed in slices."""

    out: str | None = None
    """Run folder for config, metrics.jsonl, adapters, plots and report.html; none: nothing is written."""
    overwrite: bool = False
    """Whether an earlier run in `out` is replaced. It stays until the new one has finished; until then the new one is
    beside it, in a folder whose name ends with .declora-new."""
    tensorboard: bool = False
    """Whether metrics are also written for TensorBoard, into the run folder."""
    progress: bool | None = None
    """Whether to show a progress bar; none: where standard error is a terminal."""

    def __post_init__(self) -> None:
        """Checks every setting that can be checked on its own."""
        if self.local_steps is not None and self.local_epochs is not None:
            raise ConfigError(
                f"local_steps={self.local_steps!r} and local_epochs={self.local_epochs!r} both say how long a round "
                "is. Set one of them to none."
            )
        if self.local_steps is None and self.local_epochs is None:
            object.__setattr__(self, "local_steps", DEFAULT_LOCAL_STEPS)
        for name in ("clients", "rounds", "batch_size", "eval_every", "max_length"):
            _check_count(name, getattr(self, name), least=1)
        for name in ("local_steps", "local_epochs", "group_size", "eval_samples"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name), least=1)
        _check_count("max_new_tokens", self.max_new_tokens, least=0)
        if self.client_eval_samples is not None:
            _check_count("client_eval_samples", self.client_eval_samples, least=0)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigError(f"seed={self.seed!r} must be a whole number.")
        _check_range("learning_rate", self.learning_rate, above=0.0)
        _check_range("weight_decay", self.weight_decay, least=0.0)
        _check_range("momentum", self.momentum, least=0.0, below=1.0)
        _check_range("warmup", self.warmup, least=0.0, most=1.0)
        _check_range("eval_fraction", self.eval_fraction, above=0.0, below=1.0)
        if self.clip_norm is not None:
            _check_range("clip_norm", self.clip_norm, above=0.0)
        if self.gamma is not None:
            _check_range("gamma", self.gamma, above=0.0, most=1.0)
        if self.task not in (None, "classification", "causal-lm"):
            raise unknown_name("task", self.task, ("classification", "causal-lm"))
        if not isinstance(self.prompt_template, str | None):
            raise ConfigError(f"prompt_template={self.prompt_template!r} must be a text with columns in braces.")
        if self.metric is not None and self.metric not in METRICS:
            raise unknown_name("metric", self.metric, METRICS)
        for name in ("codec", "mixer", "method", "weights", "optimizer", "schedule", "device", "attack"):
            if not isinstance(getattr(self, name), str) and not (name == "attack" and self.attack is None):
                raise ConfigError(f"{name}={getattr(self, name)!r} must be a name, in quotes.")
        if self.tensorboard and self.out is None:
            raise ConfigError("tensorboard=True needs a run folder to write into. Set out='runs/NAME'.")

    def override(self, **changes: Any) -> "SimulationConfig":
        """Returns a copy with some settings changed, checked again.

        Of `local_steps` and `local_epochs` a change of one replaces the other.

        Raises:
            ConfigError: A name is not a setting, or a value is out of range.
        """
        known = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise unknown_name("setting", name, known)
        for name, other in (("local_steps", "local_epochs"), ("local_epochs", "local_steps")):
            if changes.get(name) is not None:
                changes.setdefault(other, None)
        return dataclasses.replace(self, **changes)

    def describe(self) -> dict[str, object]:
        """Returns the settings as JSON values; objects (a model, a graph) by a short description."""
        return {f.name: describe(getattr(self, f.name)) for f in dataclasses.fields(self)}


def load_toml(path: str | Path) -> dict[str, Any]:
    """Returns the settings of a `run.toml`, or of the `config.json` that a run folder holds, unchecked.

    Raises:
        ConfigError: The file is missing, or is not a table of settings.
    """
    try:
        with open(path, "rb") as file:
            settings = json.load(file) if str(path).endswith(".json") else tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"config={str(path)!r} cannot be read: {error.strerror}. Give the path of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if isinstance(error, json.JSONDecodeError) else "TOML"
        raise ConfigError(f"config={str(path)!r} is not valid {kind}: {error}.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"config={str(path)!r} holds a {type(settings).__name__}, not a table of settings.")
    return settings


def describe(value: Any) -> Any:
    """Returns `value` as JSON would hold it, or a short description of what it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [describe(v) for v in items]
    if (type(value).__module__, type(value).__name__) == ("torch", "dtype"):
        return str(value).removeprefix("torch.")
    if hasattr(value, "quantization_method"):  # its own defaults are not what a table leaves out
        return describe(value.to_dict())
    if hasattr(value, "to_diff_dict"):  # peft.LoraConfig and transformers configurations
        return describe(value.to_diff_dict())
    if hasattr(value, "tolist"):
        return value.tolist()
    return f"<{type(value).__name__}>"


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r} must be a whole number of at least {least}.")


def _check_range(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> None:
    bounds = [
        text
        for text, bound in (
            (f"above {above:g}" if above is not None else "", above),
            (f"at least {least:g}" if least is not None else "", least),
            (f"below {below:g}" if below is not None else "", below),
            (f"at most {most:g}" if most is not None else "", most),
        )
        if bound is not None
    ]
    fine = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if fine:
        number = float(value)  # type: ignore[arg-type]
        fine = (
            (above is None or number > above)
            and (least is None or number >= least)
            and (below is None or number < below)
            and (most is None or number <= most)
            and number != float("inf")
        )
    if not fine:
        raise ConfigError(f"{name}={value!r} must be a number {' and '.join(bounds)}.")
