"""The data of a causal language model, from rows of text to token ids: what is learned, and what is asked."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.data import TextData
from declora.errors import DataError, ModelError
from declora.model.limits import check_positions, check_vocabulary, positions
from declora.train.exact_match import Questions, questions_of
from declora.train.instructions import cut, encode
from declora.train.packing import check_packing
from declora.train.segments import write_examples
from declora.train.tokens import Tokens, tokenize

__all__ = ["Corpus", "check_answers", "read_corpus"]


@dataclass(frozen=True)
class Corpus:
    """Rows that have something to predict, as tokens."""

    text: TextData
    """The data without the rows that have nothing to predict."""
    train: Tokens
    evaluation: Tokens
    questions: Questions | None
    """Of the evaluation rows, where answers are to be generated."""
    public: Tokens | None = None
    """Of rows that all clients have."""


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
    public: Dataset | None = None,
) -> Corpus:
    """Tokenizes all splits and leaves out the rows that have no token to predict, with a warning that counts them.

    Rows are cut on the right after `max_length` tokens: a prompt that fills them leaves nothing of its completion to
    learn. Plain text that will be packed is left whole in training.

    Raises:
        DataError: No row is left, or the chat template refuses a conversation.
        ModelError: The model has not enough positions or embeddings, cannot be packed, or its tokenizer has no chat
            template.
    """
    if packing and text.has_prompts:
        check_packing(model)
    splits = {"training": text.train, "evaluation": text.evaluation}
    if public is not None:
        splits["public"] = public
    questions = None
    if text.has_prompts:
        examples = [write_examples(text, split, tokenizer, template=prompt_template) for split in splits.values()]
        chat = text.chat or prompt_template == "chat"
        encoded = [encode(rows, tokenizer, chat=chat, completion_only=completion_only) for rows in examples]
        pad_id = int(tokenizer.pad_token_id or 0)
        found = [cut(part, max_length=max_length, pad_id=pad_id) for part in encoded]
        if max_new_tokens:
            questions = questions_of(
                examples[1], encoded[1], found[1][1], model, tokenizer, max_new_tokens=max_new_tokens
            )
    else:
        whole = ["training"] if packing else []
        found = [
            _plain(text, split, tokenizer, None if name in whole else max_length) for name, split in splits.items()
        ]
    lost = [
        f"{split.num_rows - len(kept)} of {split.num_rows} {name} rows are left out: their first "
        f"max_length={max_length} tokens hold nothing to predict. Raise max_length to keep them."
        for (name, split), (_, kept) in zip(splits.items(), found, strict=True)
        if len(kept) < split.num_rows
    ]
    for note in lost:
        warnings.warn(note, stacklevel=2)
    tokens, (train_rows, rows, *others) = [part for part, _ in found], [kept for _, kept in found]
    if any(not len(kept) for kept in others):
        raise DataError("public_data has no row with a token to predict. Raise max_length, or check the texts.")
    text = replace(text.keep(train_rows, rows), notes=(*text.notes, *lost))
    longest = max(int(part.lengths.max(initial=0)) for part in tokens)
    if packing and not text.has_prompts:
        longest = max(longest, len(tokens[0].ids))  # a row is cut of all texts of a client
    check_vocabulary(model, [part.ids for part in tokens])
    check_positions(model, min(longest, max_length), max_length)
    if questions is not None:
        check_answers(model, questions)
    return Corpus(text, tokens[0], tokens[1], questions, *tokens[2:])


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


def check_answers(model: PreTrainedModel, questions: Questions) -> None:
    """Raises ModelError where the model has not a position for every token of a prompt and its answer."""
    places = positions(model)
    longest = max((len(prompt) for prompt in questions.prompts), default=0)
    if places is not None and longest + questions.max_new_tokens > places:
        room = places - longest
        fix = f"Set max_new_tokens={room} or less." if room > 0 else "Shorten the prompts."
        raise ModelError(
            f"max_new_tokens={questions.max_new_tokens} after a prompt of {longest} tokens is more than the "
            f"{places} positions of {type(model).__name__}. {fix}"
        )
