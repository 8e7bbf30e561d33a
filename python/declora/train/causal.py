"""The data of a causal language model, from rows of text to token ids: what is learned, and what is asked."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.data import TextData
from declora.errors import ModelError
from declora.train.exact_match import Questions, questions_of
from declora.train.instructions import cut, encode
from declora.train.packing import check_packing
from declora.train.segments import write_examples
from declora.train.tokens import Tokens, tokenize

__all__ = ["Corpus", "read_corpus"]


@dataclass(frozen=True)
class Corpus:
    """Rows that have something to predict, as tokens."""

    text: TextData
    """The data without the rows that have nothing to predict."""
    train: Tokens
    evaluation: Tokens
    questions: Questions | None
    """Of the evaluation rows, where answers are to be generated."""


def read_corpus(
    text: TextData,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    prompt_template: str | None = None,
    completion_only: bool = True,
    packing: bool = False,
    max_new_tokens: int = 0,
) -> Corpus:
    """Tokenizes both splits and leaves out the rows that have no token to predict, with a warning that counts them.

    Rows are cut on the right after `max_length` tokens: a prompt that fills them leaves nothing of its completion to
    learn. Plain text that will be packed is left whole in training.

    Raises:
        DataError: No row is left, or the chat template refuses a conversation.
        ModelError: The model has not enough positions or embeddings, cannot be packed, or its tokenizer has no chat
            template.
    """
    if packing and text.has_prompts:
        check_packing(model)
    splits = [text.train, text.evaluation]
    questions = None
    if text.has_prompts:
        examples = [write_examples(text, split, tokenizer, template=prompt_template) for split in splits]
        chat = text.chat or prompt_template == "chat"
        encoded = [encode(rows, tokenizer, chat=chat, completion_only=completion_only) for rows in examples]
        pad_id = int(tokenizer.pad_token_id or 0)
        (train, train_rows), (evaluation, rows) = (cut(part, max_length=max_length, pad_id=pad_id) for part in encoded)
        if max_new_tokens:
            questions = questions_of(examples[1], encoded[1], rows, model, tokenizer, max_new_tokens=max_new_tokens)
    else:
        train, train_rows = _plain(text, splits[0], tokenizer, None if packing else max_length)
        evaluation, rows = _plain(text, splits[1], tokenizer, max_length)
    lost = [
        f"{split.num_rows - len(kept)} of {split.num_rows} {name} rows are left out: their first "
        f"max_length={max_length} tokens hold nothing to predict. Raise max_length to keep them."
        for name, split, kept in (("training", splits[0], train_rows), ("evaluation", splits[1], rows))
        if len(kept) < split.num_rows
    ]
    for note in lost:
        warnings.warn(note, stacklevel=2)
    text = replace(text.keep(train_rows, rows), notes=(*text.notes, *lost))
    _check_model(model, (train, evaluation), max_length, questions)
    return Corpus(text, train, evaluation, questions)


def _plain(
    text: TextData, split: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> tuple[Tokens, NDArray[np.int64]]:
    """Returns the tokens of the rows of plain text that have a token to predict, and which rows those are."""

    def tokens_of(rows: Dataset) -> Tokens:
        return tokenize(
            rows,
            tokenizer,
            task="causal-lm",
            text_columns=text.text_columns,
            label_column=None,
            max_length=max_length,
        )

    tokens = tokens_of(split)
    kept = np.flatnonzero(tokens.targets(np.arange(len(tokens))))
    return (tokens if len(kept) == len(tokens) else tokens_of(split.select(kept))), kept


def _check_model(
    model: PreTrainedModel, splits: Sequence[Tokens], max_length: int, questions: Questions | None
) -> None:
    """Checks that the model has an embedding for every token and a position for every place."""
    embeddings: Any = model.get_input_embeddings().num_embeddings
    if (largest := max(int(tokens.ids.max(initial=0)) for tokens in splits)) >= embeddings:
        raise ModelError(
            f"tokenizer gives token {largest}, but {type(model).__name__} has {embeddings} embeddings. Use the model's "
            "own tokenizer, or resize_token_embeddings before."
        )
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return
    if (longest := max(int(tokens.lengths.max(initial=0)) for tokens in splits)) > positions and longest <= max_length:
        raise ModelError(
            f"max_length={max_length} lets a text of {longest} tokens through, but {type(model).__name__} has "
            f"{positions} positions. Set max_length={positions} or less."
        )
    if questions is not None:
        longest = max((len(prompt) for prompt in questions.prompts), default=0)
        if longest + questions.max_new_tokens > positions:
            raise ModelError(
                f"max_new_tokens={questions.max_new_tokens} after a prompt of {longest} tokens is more than the "
                f"{positions} positions of {type(model).__name__}. Set max_new_tokens={max(0, positions - longest)} or "
                "less."
            )
