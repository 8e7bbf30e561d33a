"""What one adapter makes of new texts, computed as runs evaluate: by batched layers over the frozen base."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedModel

from declora import process
from declora.adapters.about import NEW_TOKENS, About
from declora.data.prompts import CHAT
from declora.errors import DataError, refuse, shown
from declora.model import AdapterBank, BaseModel
from declora.model.limits import check_vocabulary, padding_of, positions
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.train.causal import check_answers
from declora.train.evaluate import summaries
from declora.train.exact_match import answers_to, questions_of
from declora.train.instructions import encode
from declora.train.segments import Example, Segment, write_examples
from declora.train.sharing import Sharing
from declora.train.tokens import Tokens, tokenize

__all__ = ["predict"]

_ANSWER = "."
"""Stands where an answer will be, so that prompts are written as in training."""


def predict(
    base: BaseModel,
    row: torch.Tensor,
    config: LoraConfig,
    about: About,
    texts: Sequence[Any],
    *,
    max_new_tokens: int | None,
) -> list[str]:
    """Returns a class name for each text, or what a causal LM writes next.

    Args:
        base: Left as it is.
        row: float32 `[D]`, the adapter.
        config: Of the adapter.
        about: Its run.
        texts: As of `Adapter.predict`.
        max_new_tokens: Of each answer; None: as in the run, or a default.

    Raises:
        ConfigError: `max_new_tokens` is no whole number of at least 1.
        DataError: Something in `texts` does not fit the columns.
        ModelError: The base has no room for a text.
    """
    if max_new_tokens is not None:
        asked = max_new_tokens
        if isinstance(asked, bool) or not isinstance(asked, int | np.integer) or asked < 1:
            refuse("max_new_tokens", asked, "a whole number of at least 1")
    text = about.lineage.text
    rows = _rows(texts, text.text_columns, chat=text.chat)
    if not rows:
        return []
    owners = RowOwners()
    tokens = None
    if text.task == "classification":
        tokens = _tokens(base.model, about, rows)
        base = replace(base, pad_id=tokens.pad_id)
    with base.lent():
        with process.alone():  # PEFT changes globals
            surgery = Surgery(base.model, config, owners, seed=0)
        try:
            bank = AdapterBank(surgery.layout, surgery.slots, owners)
            bank.fill(row, 1, base.device)
            if tokens is not None:
                return _classes(base, bank, tokens, text.label_names)
            return _answers(base, bank, about, rows, max_new_tokens or about.settings.max_new_tokens or NEW_TOKENS)
        finally:
            surgery.undo()


def _rows(texts: Sequence[Any], columns: Sequence[str], *, chat: bool) -> dict[str, list[Any]]:
    """Returns what is given for each column."""
    if isinstance(texts, str | bytes | Mapping) or not hasattr(texts, "__iter__"):
        raise DataError(f"texts={shown(texts)} is no list of texts. Give one: [...].")
    rows = [_row(number, given, columns, chat=chat) for number, given in enumerate(texts)]
    return {name: [row[name] for row in rows] for name in columns} if rows else {}


def _row(number: int, given: Any, columns: Sequence[str], *, chat: bool) -> dict[str, Any]:
    wanted = "messages" if chat else f"a text of each of {', '.join(columns)}" if len(columns) > 1 else "a text"
    if isinstance(given, str) and len(columns) == 1:
        return {columns[0]: [{"role": "user", "content": given}] if chat else given}
    if isinstance(given, Mapping):
        row = {name: given.get(name) for name in columns}
    elif chat and isinstance(given, Sequence):
        row = {columns[0]: list(given)}
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) == len(columns):
        row = dict(zip(columns, given, strict=True))
    else:
        row = {}
    if not row or not all(_is_message_list(value) if chat else isinstance(value, str) for value in row.values()):
        raise DataError(f"texts[{number}]={shown(given)} is not {wanted}, as in the data of the run.")
    return row


def _is_message_list(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, Mapping) and {"role", "content"} <= message.keys() for message in value)
    )


def _tokens(model: PreTrainedModel, about: About, rows: dict[str, list[Any]]) -> Tokens:
    """Returns the tokens of texts to classify, which will be computed beside others of their length alone."""
    tokenizer, places = about.lineage.tokenizer, positions(model)
    most = about.settings.max_length
    tokens = tokenize(
        Dataset.from_dict(rows),
        tokenizer,
        task="classification",
        text_columns=tuple(rows),
        label_column=None,
        max_length=most if places is None else min(most, places),
    )
    check_vocabulary(model, [tokens.ids])
    return replace(
        tokens,
        pad_id=padding_of(model, tokenizer.pad_token_id, [tokens.ids]),
        types=tokens.types if about.lineage.typed else None,
        reads_padding=True,
    )


def _classes(base: BaseModel, bank: AdapterBank, tokens: Tokens, names: Sequence[str]) -> list[str]:
    scores = summaries(base.model, bank, bank.P, tokens, lambda logits: logits, len(names), Sharing(True))
    return [names[index] for index in scores[0].argmax(dim=1).tolist()]


def _answers(
    base: BaseModel, bank: AdapterBank, about: About, rows: dict[str, list[Any]], max_new_tokens: int
) -> list[str]:
    text, template = about.lineage.text, about.settings.prompt_template
    tokenizer, count = about.lineage.tokenizer, len(next(iter(rows.values())))
    if text.has_prompts:
        asked = dict(rows)
        answer: Any = [{"role": "assistant", "content": _ANSWER}] if text.chat else _ANSWER
        if text.completion_column is not None:
            asked[text.completion_column] = [answer] * count
        else:
            name = text.text_columns[0]
            asked[name] = [messages + answer for messages in rows[name]]
        examples = write_examples(text, Dataset.from_dict(asked), tokenizer, template=template)
    else:
        begun = ("\n".join(parts) for parts in zip(*rows.values(), strict=True))
        examples = [Example([Segment(part, False), Segment("", True)], "") for part in begun]
    encoded = encode(examples, tokenizer, chat=text.chat or template == CHAT, completion_only=True)
    every = np.arange(count)
    questions = questions_of(examples, encoded, every, base.model, tokenizer, max_new_tokens=max_new_tokens)
    check_vocabulary(base.model, questions.prompts)
    check_answers(base.model, questions)
    return answers_to(base.model, bank, bank.P, questions, every, tokenizer)
