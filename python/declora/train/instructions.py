"""Instruction data as token ids: which of them are targets, and where the answer begins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from declora.train.segments import Example
from declora.train.tokens import Tokens

__all__ = ["Encoded", "cut", "encode"]


@dataclass(frozen=True)
class Encoded:
    """One example as token ids."""

    ids: list[int]
    scored: list[bool]
    """Whether each token is a target of the loss."""
    answer: int
    """Where the last target begins: the tokens before it are what an answer is generated from."""


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, chat: bool, completion_only: bool
) -> list[Encoded]:
    """Returns the tokens of each example, each segment tokenized by itself.

    So the prompt has the tokens that it has alone when an answer is generated from it, and no token reaches across its
    end. Prompt and completion get the tokenizer's own beginning (`<s>`) and its end-of-text token; a chat template has
    written everything already.

    Args:
        examples: What to tokenize.
        tokenizer: Of the model.
        chat: Whether the chat template wrote the examples.
        completion_only: Whether only target segments are scored; else every token but the first is.
    """
    texts = [segment.text for example in examples for segment in example.segments]
    pieces = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    begin, end = ([], []) if chat else (_beginning(tokenizer), [tokenizer.eos_token_id])
    encoded = []
    for example in examples:
        ids, scored, answer = list(begin), [False] * len(begin), 0
        for segment in example.segments:
            answer = len(ids) if segment.target else answer
            piece = next(pieces)
            ids += piece
            scored += [segment.target] * len(piece)
        ids += [token for token in end if token is not None]
        scored += [True] * (len(ids) - len(scored))
        # A first token has nothing before it to be predicted from.
        scored = [i > 0 and (flag or not completion_only) for i, flag in enumerate(scored)]
        encoded.append(Encoded(ids, scored, answer))
    return encoded


def cut(encoded: Sequence[Encoded], *, max_length: int, pad_id: int) -> tuple[Tokens, NDArray[np.int64]]:
    """Returns the examples cut on the right to `max_length` tokens that still have a target, and which those are."""
    kept = [i for i, example in enumerate(encoded) if any(example.scored[:max_length])]
    rows = [encoded[i] for i in kept]
    lengths = [min(len(row.ids), max_length) for row in rows]
    tokens = Tokens(
        task="causal-lm",
        ids=np.fromiter((token for row in rows for token in row.ids[:max_length]), dtype=np.int64),
        types=None,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=None,
        pad_id=pad_id,
        scored=np.fromiter((flag for row in rows for flag in row.scored[:max_length]), dtype=np.bool_),
    )
    return tokens, np.asarray(kept, dtype=np.int64)


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Returns the special tokens that the tokenizer writes before a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    return list(full[: next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)])
