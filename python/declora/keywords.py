"""Holds the types of the settings, so that editors complete them and mypy refuses `rounds="three"`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from declora.callbacks import Callback

__all__ = ["Settings"]


class Settings(TypedDict, total=False):
    """What `simulate` takes by name beside `compare`; `SimulationConfig` says what each means.

    `settings: declora.Settings = {"clients": 20}` gives `simulate(**settings)`.
    """

    data: Any
    task: Literal["classification", "causal-lm"] | None
    text_columns: Any
    label_column: str | None
    completion_column: str | None
    prompt_template: str | None
    completion_only_loss: bool
    packing: bool
    max_length: int
    public_data: Any
    public_samples: int | None
    model: Any
    lora: Any
    ranks: Any
    tokenizer: Any
    trust_remote_code: bool
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None
    load_in_4bit: bool
    quantization_config: Any
    device: str
    clients: int
    partition: Any
    topology: Any
    weights: str | None
    method: Any
    seed: int
    rounds: int
    local_steps: int | None
    local_epochs: int | None
    batch_size: int
    learning_rate: float
    optimizer: Literal["adamw", "sgd"]
    weight_decay: float
    momentum: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float
    clip_norm: float | None
    reset_moments: bool
    base_dropout: bool
    group_size: int | None
    activation_checkpointing: bool | None
    tf32: bool
    compile: bool
    unpad: bool
    sort_by_length: bool
    codec: Any
    mixer: Any
    gamma: float | None
    overlap: bool
    attack: str | None
    attackers: Any
    faults: str | None
    clock: str | None
    detect: str | None
    peer_timeout: float
    eval_data: Any
    eval_fraction: float
    eval_every: int
    eval_samples: int | None
    client_eval_samples: int | None
    metric: str | None
    max_new_tokens: int
    out: str | Path | None
    overwrite: bool
    checkpoint_every: int | None
    ledger: bool
    callbacks: Sequence[Callback] | None
    report_to: Any
    tensorboard: bool | None
    progress: bool | None
