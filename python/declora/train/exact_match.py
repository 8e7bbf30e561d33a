"""Exact match: the share of prompts whose generated answer is the right one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.model.bank import AdapterBank
from declora.model.limits import filler
from declora.train.generate import greedy
from declora.train.instructions import Encoded
from declora.train.segments import Example

__all__ = ["Questions", "answers_to", "exact_match", "is_right", "questions_of"]

# GSM8K (Cobbe et al. 2021, arXiv 2110.14168): the number after "####" is the answer, what is before it the way there.
_FINAL = re.compile(r"####\s*\$?\s*(-?[\d,]*\.?\d+)")


@dataclass(frozen=True)
class Questions:
    """Prompts to answer, and the right answers."""

    prompts: list[NDArray[np.int64]]
    """Token ids of each."""
    answers: list[str]
    stop: tuple[int, ...]
    """Token ids that end an answer."""
    max_new_tokens: int


def questions_of(
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    rows: NDArray[np.int64],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
) -> Questions:
    """Returns the questions of examples `rows`: everything before the last target is the prompt, uncut.

    An answer ends with the tokenizer's or the model's end-of-text tokens, or with the first special token that a
    training target of these examples has (a chat template's end of turn).
    """
    model_stop = model.generation_config.eos_token_id if model.generation_config is not None else None
    stop = {tokenizer.eos_token_id, *(model_stop if isinstance(model_stop, list) else [model_stop])} - {None}
    added = {token for token, what in tokenizer.added_tokens_decoder.items() if what.special}
    special = ({*tokenizer.all_special_ids} | added) - {tokenizer.unk_token_id}
    for row in rows:
        stop.update(next(([token] for token in encoded[row].ids[encoded[row].answer :] if token in special), []))
    return Questions(
        [np.asarray(encoded[row].ids[: encoded[row].answer], dtype=np.int64) for row in rows],
        [examples[row].answer for row in rows],
        tuple(sorted(stop)),
        max_new_tokens,
    )


def exact_match(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    questions: Questions,
    rows: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerBase,
) -> NDArray[np.float64]:
    """Returns the share of questions `rows` that each adapter of `values [C, D]` answers right, `[C]`."""
    clients = len(values)
    texts = answers_to(model, bank, values, questions, rows, tokenizer)
    asked = np.tile(rows, clients)
    right = [is_right(text, questions.answers[row]) for text, row in zip(texts, asked, strict=True)]
    share: NDArray[np.float64] = np.mean(np.reshape(right, (clients, len(rows))), axis=1)
    return share


def answers_to(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    questions: Questions,
    rows: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    """Returns what each adapter of `values [C, D]` answers to questions `rows`, adapter by adapter."""
    clients = len(values)
    asked = np.tile(rows, clients)
    answers = greedy(
        model,
        bank,
        values,
        [questions.prompts[row] for row in asked],
        np.repeat(np.arange(clients), len(rows)),
        max_new_tokens=questions.max_new_tokens,
        stop=questions.stop,
        pad_id=filler(model, tokenizer.pad_token_id),
    )
    texts: list[str] = tokenizer.batch_decode([answer.tolist() for answer in answers], skip_special_tokens=True)
    return texts


def is_right(answer: str, expected: str) -> bool:
    """Returns whether `answer` is the expected one.

    Where the expected text has `#### n`, the answer must have the same number after its own first `####` (commas, a
    dollar sign and trailing zeros aside). Otherwise the two must be the same text, white space aside.
    """
    if (right := _final(expected)) is not None:
        return _final(answer) == right
    return answer.split() == expected.split()


def _final(text: str) -> float | None:
    """Returns the number after `####`, None where there is none."""
    found = _FINAL.search(text)
    return float(found[1].replace(",", "")) if found else None
