"""What tests train on: tiny random models, a tiny tokenizer, tiny data; and the picture that stands for any."""

import os
from typing import IO

import torch

# Without a GPU, Triton's kernels run under its interpreter; whoever imports Triton first decides it.
os.environ["TRITON_INTERPRET"] = "0" if torch.cuda.is_available() else "1"

import datasets
import numpy as np
import transformers
from matplotlib.figure import Figure
from tokenizers import Tokenizer, models, pre_tokenizers, processors

# Two threads gain nothing on models this small, and cost much where another process wants the other core.
torch.set_num_threads(1)

WORDS = [f"w{i}" for i in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

draw = Figure.savefig


def save_empty(figure: Figure, target: IO, *, format: str, **_: object) -> None:
    target.write('<svg viewBox="0 0 1 1"></svg>' if format == "svg" else b"picture")


def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
    )


def tiny_bert(
    labels: int = 2, seed: int = 0, *, width: int = 32, layers: int = 2
) -> transformers.BertForSequenceClassification:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.2,  # random, but not all but linear
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval()


def tiny_roberta(labels: int = 3, *, width: int = 32) -> transformers.RobertaForSequenceClassification:
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=64, hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=80, num_labels=labels, pad_token_id=0,
    )  # fmt: skip
    return transformers.RobertaForSequenceClassification(config).eval()


def tiny_gpt2(kind: type = transformers.GPT2LMHeadModel, *, width: int = 32) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=width, n_layer=2, n_head=2, n_positions=64, bos_token_id=2, eos_token_id=3,
        pad_token_id=0, num_labels=2, initializer_range=0.1,
    )  # fmt: skip
    return kind(config).eval()


def tiny_llama(*, width: int = 32) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=width, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, max_position_embeddings=64, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def tiny_texts(count: int = 96, labels: int = 2, seed: int = 0) -> datasets.Dataset:
    """Texts of 2 to 14 words; words of class c come mostly from c's own part of the vocabulary."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % labels
    part = len(WORDS) // labels
    texts = []
    for c in label:
        own = rng.integers(c * part, (c + 1) * part, size=rng.integers(2, 15))
        noise = rng.integers(0, len(WORDS), size=len(own))
        texts.append(" ".join(WORDS[w] for w in np.where(rng.random(len(own)) < 0.7, own, noise)))
    return datasets.Dataset.from_dict({"text": texts, "label": label.tolist()})
