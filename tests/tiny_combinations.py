"""Tiny runs of a method with a codec, a mixer and a graph, or the message that refuses them."""

import functools
import re
from dataclasses import dataclass

import datasets

from declora.config import SimulationConfig
from declora.errors import DecloraError
from declora.methods import build_method
from declora.prepare import Material, plan_federation, prepare
from declora.run import Run
from tiny import tiny_bert, tiny_gpt2, tiny_texts, tiny_tokenizer

CODECS = ("none", "q4", "q4+choco", "topk:fraction=0.2+ef21", "powersgd+ef")
MIXERS = ("linear", "clipped", "median", "krum:f=1", "push-sum")
GRAPHS = ("ring", "complete", "exponential", "one-peer-exponential")
SETTINGS = {
    "clients": 8, "rounds": 2, "local_steps": 2, "batch_size": 2, "client_eval_samples": 0, "progress": False,
    "lora": {"r": 2, "target_modules": ["query"]}, "warmup": 0.0, "max_length": 16,
    "public_data": tiny_texts(6, seed=2),
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """Two rounds that left finite numbers."""


@dataclass(frozen=True)
class Refused:
    """Said before anything was trained, in one line that names a setting."""

    message: str

    @property
    def kind(self) -> str:
        """The message without the values in it, which is the same for like reasons."""
        return re.sub(r"'[^']*'|\d+", "?", self.message)


@dataclass(frozen=True)
class Fault:
    """Neither."""

    message: str


@functools.cache
def material(*, words: bool) -> Material:
    """The data and the model of all methods that classify, or continue texts."""
    data = datasets.DatasetDict(train=tiny_texts(64), validation=tiny_texts(8, seed=1))
    own = {"model": tiny_gpt2(width=16), "task": "causal-lm", "method": "kd-topk"} if words else {}
    usual = {"model": tiny_bert(width=16), "tokenizer": tiny_tokenizer(), "data": data}
    return prepare(SimulationConfig(**usual | SETTINGS | own))


def tried(method: str, **settings: str) -> Ran | Refused | Fault:
    """Returns what becomes of a run with these settings."""
    words = build_method(method).reads_words
    own = {"task": "causal-lm", "lora": {"r": 2}} if words else {}
    try:
        usual = {"model": tiny_bert(width=16), "tokenizer": tiny_tokenizer(), "data": tiny_texts(8)}
        config = SimulationConfig(**usual | SETTINGS | own | settings, method=method)
        run = Run(config, material(words=words), plan_federation(config))
    except DecloraError as error:
        said = str(error)
        named = re.match(r"(method|codec|mixer|topology|attack)=", said) and "\n" not in said and said.endswith(".")
        return Refused(said) if named else Fault(said)
    except Exception as error:
        return Fault(f"{type(error).__name__}: {error}")
    try:
        finite = bool(run.execute().rows.isfinite().all())
    except Exception as error:
        return Fault(f"{type(error).__name__} in a round: {error}")
    return Ran() if finite else Fault("left the finite numbers")
