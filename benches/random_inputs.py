"""A base with random weights and texts of random tokens: what is measured depends on neither, only on their sizes."""

from dataclasses import dataclass

import datasets
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from transformers import PretrainedConfig, PreTrainedModel

from declora.data import TextData
from declora.model import BaseModel
from declora.model.quantized import quantization_of, quantize
from declora.prepare import Material
from declora.train.tokens import Tokens

__all__ = ["Lengths", "block_parameters", "in_4_bits", "random_material", "random_model"]

_LABELS = ("a", "b")
_EVALUATED = 8
_ORDINARY = 100
"""The first token id that texts are made of; BERT's special ones are below 104, but nothing looks for them here."""


@dataclass(frozen=True)
class Lengths:
    """Of texts, in tokens: evenly from `shortest` up to, not including, `longest`."""

    shortest: int
    longest: int
    scored: float = 1.0
    """Share of a text, its end, whose tokens are learned (causal LM)."""

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Returns the lengths of `count` texts."""
        return rng.integers(self.shortest, self.longest, size=count)


def random_model(config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Returns a classifier, of a decoder a causal LM, made where it is to be: 7B would take a CPU minutes."""
    decodes = config.model_type == "llama"
    kind = transformers.AutoModelForCausalLM if decodes else transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    with torch.device(device):
        return kind.from_config(config, dtype=dtype).eval()


def in_4_bits(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Returns `model` with its linear layers in 4 bits, as `load_in_4bit=True` has them."""
    wanted = quantization_of(True, None, device)
    assert wanted is not None
    return quantize(model, wanted, device).eval()


def block_parameters(model: PreTrainedModel) -> int:
    """Returns how many weights a token meets, without embeddings and head: a step is four operations with each."""
    stack = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    return sum(parameter.numel() for parameter in stack.parameters())


def random_material(model: PreTrainedModel, lengths: Lengths, texts: int, device: torch.device) -> Material:
    """Returns what `declora.prepare.prepare` makes of texts and a model, but of random tokens."""
    decodes = model.config.model_type == "llama"
    rng = np.random.default_rng(0)
    train, evaluation = (_tokens(lengths, count, decodes, model, rng) for count in (texts, _EVALUATED))
    rows = [
        datasets.Dataset.from_dict({"text": [""] * len(part)} | ({} if decodes else {"label": part.labels}))
        for part in (train, evaluation)
    ]
    text = TextData(
        "random tokens", *rows, task=train.task, text_columns=("text",), label_column=None if decodes else "label",
        label_names=() if decodes else _LABELS, shards=None,
    )  # fmt: skip
    nothing = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({}, unk_token="[UNK]")))
    return Material(text, BaseModel(model, nothing, "", device), train, evaluation)


def _tokens(lengths: Lengths, count: int, decodes: bool, model: PreTrainedModel, rng: np.random.Generator) -> Tokens:
    drawn = lengths.draw(count, rng)
    starts = np.concatenate([[0], np.cumsum(drawn)])
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], drawn)
    scored = place >= np.maximum(1, np.repeat(np.round((1 - lengths.scored) * drawn), drawn))
    return Tokens(
        task="causal-lm" if decodes else "classification",
        ids=rng.integers(_ORDINARY, model.config.vocab_size, size=starts[-1]),
        types=None,
        starts=starts,
        labels=None if decodes else rng.integers(0, len(_LABELS), size=count),
        pad_id=0,
        scored=scored if decodes else None,
    )
