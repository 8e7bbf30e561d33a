"""Tokenized texts, kept ragged: one flat array of ids and where each text starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from declora.cuda import to_device
from declora.errors import ConfigError, DataError, shown

__all__ = ["Batch", "Side", "Tokens", "tokenize"]

Side = Literal["right", "left"]
"""Of a row: where its padding is."""


@dataclass(frozen=True)
class Batch:
    """Padded model inputs: `inputs` `[R, T]` each, `labels` `[R]` or (causal LM) `[R, T]` with -100 outside."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    scored: torch.Tensor | None = None
    """int64 `[S]`: which of the flattened `[R, T]` tokens have a next one to predict (causal LM)."""

    def times(self, count: int) -> "Batch":
        """Returns this batch `count` times, one after another."""
        if count == 1:
            return self
        inputs = {name: values.repeat(count, 1) for name, values in self.inputs.items()}
        if self.scored is None:
            return Batch(inputs, self.labels.repeat(count))
        before = self.labels.numel() * torch.arange(count, device=self.labels.device)
        scored = (before.unsqueeze(1) + self.scored).flatten()
        return Batch(inputs, self.labels.repeat(count, 1), scored)


@dataclass(frozen=True)
class Tokens:
    """All texts of a split as token ids."""

    task: Literal["classification", "causal-lm"]
    ids: NDArray[np.int64]
    """Flat, all texts one after the other."""
    types: NDArray[np.int64] | None
    """Token type ids (which of two sentences), flat, where the tokenizer makes them."""
    starts: NDArray[np.int64]
    """`[texts + 1]`: text i is `ids[starts[i]:starts[i + 1]]`."""
    labels: NDArray[np.int64] | None
    """`[texts]` class indices (classification); -100 of texts that have none."""
    pad_id: int
    scored: NDArray[np.bool_] | None = None
    """Flat: which tokens are targets of the loss (causal LM); the first of a text never is."""
    positions: NDArray[np.int64] | None = None
    """Flat: each token's place in its own text, where a row holds several texts that do not see each other."""
    counts: NDArray[np.int64] | None = None
    """`[texts]`: how many samples begin in each row, where rows are packed of several; None where each is one."""
    padding_side: Side = "right"
    reads_padding: bool = False
    """Whether the model does, so that a text is to it what it is alone only beside texts of the same length."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, `[texts]`."""
        return np.diff(self.starts)

    def targets(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns how many predictions each of `texts` is scored on: one, or (causal LM) its target tokens."""
        return np.diff(self._scored_before[self.starts])[texts] if self.labels is None else np.ones_like(texts)

    @property
    def places(self) -> NDArray[np.int64]:
        """`[texts + 1]`: predictions before each text, so that text i has those from `places[i]` to `places[i + 1]`."""
        return np.concatenate([[0], np.cumsum(self.targets(np.arange(len(self))))])

    def places_of(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers, among those of all texts, of the predictions of `texts`, text by text."""
        counts = self.targets(texts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: NDArray[np.int64] = np.repeat(self.places[texts], counts) + within
        return found

    def samples(self, texts: NDArray[np.int64]) -> int:
        """Returns how many samples `texts` are: as many as they hold where they are packed."""
        return len(texts) if self.counts is None else int(self.counts[texts].sum())

    @cached_property
    def _scored_before(self) -> NDArray[np.int64]:
        """`[tokens + 1]`: how many targets come before each token."""
        return np.concatenate([[0], np.cumsum(self._is_scored, dtype=np.int64)])

    @property
    def _is_scored(self) -> NDArray[np.bool_]:
        if self.scored is None:
            raise ValueError("scored=None: the tokens of a causal LM must say which of them are targets.")
        return self.scored

    def batch(self, texts: NDArray[np.int64], device: torch.device) -> Batch:
        """Returns `texts` (indices) padded to the longest of them.

        With `positions` there is no attention mask: transformers then reads from `position_ids` which tokens belong
        together, and each padding token is a text of its own.
        """
        lengths = self.lengths[texts][:, None]
        column = np.arange(lengths.max()) - (lengths.max() - lengths if self.padding_side == "left" else 0)
        inside = (column >= 0) & (column < lengths)  # R T
        place = np.where(inside, self.starts[texts][:, None] + column, 0)
        ids = np.where(inside, self.ids[place], self.pad_id)
        inputs = {"input_ids": ids}
        if self.positions is None:
            inputs["attention_mask"] = inside.astype(np.int64)
        else:
            inputs["position_ids"] = np.where(inside, self.positions[place], 0)
        if self.types is not None:
            inputs["token_type_ids"] = np.where(inside, self.types[place], 0)
        given = {name: to_device(values, device) for name, values in inputs.items()}
        if self.labels is not None:
            return Batch(given, to_device(self.labels[texts], device))
        targets = inside & self._is_scored[place]
        targets[:, 0] = False  # nothing comes before it
        labels = np.where(targets, ids, -100)
        return Batch(given, to_device(labels, device), to_device(np.flatnonzero(targets) - 1, device))


def tokenize(
    data: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    task: Literal["classification", "causal-lm"],
    text_columns: Sequence[str],
    label_column: str | None,
    max_length: int | None,
) -> Tokens:
    """Returns the tokens of every row, cut to `max_length` (None: whole).

    Two text columns are one pair for a classifier (`[CLS] a [SEP] b [SEP]`). For a causal LM the columns are joined
    by a newline and ended by the end-of-text token. Without a label column, texts to classify have no labels.

    Raises:
        ConfigError: `max_length` leaves no room for a token of each text beside the tokenizer's own.
        DataError: The tokenizer makes no token of a text to classify.
    """
    columns = [data[name][:] for name in text_columns]
    texts_of_row = 1 if task == "causal-lm" else len(columns)
    special = tokenizer.num_special_tokens_to_add(pair=texts_of_row == 2)
    if max_length is not None and max_length < special + texts_of_row:
        raise ConfigError(
            f"max_length={max_length} leaves no room for a text: the tokenizer adds {special} tokens of its own to "
            f"{'a pair' if texts_of_row == 2 else 'each'}. Set at least {special + texts_of_row}, e.g. 128."
        )
    if task == "causal-lm":
        end = tokenizer.eos_token or ""
        texts = ["\n".join(parts) + end for parts in zip(*columns, strict=True)]
        encoded = tokenizer(texts, truncation=max_length is not None, max_length=max_length, verbose=False)
    else:
        encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    ids: list[list[int]] = encoded["input_ids"]
    starts = np.concatenate([[0], np.cumsum([len(text) for text in ids])]).astype(np.int64)
    types = encoded.get("token_type_ids")
    labels = scored = None
    if task == "classification":
        unknown = np.full(len(data), -100)
        labels = unknown if label_column is None else np.asarray(data[label_column][:], dtype=np.int64)
        if (bare := np.flatnonzero(np.diff(starts) <= special)).size:
            text = " ".join(column[bare[0]] for column in columns)
            others = f", nor of {bare.size - 1} others" * (bare.size > 1)
            raise DataError(
                f"The tokenizer makes no token of the text {shown(text)}{others}. Drop what is empty, or use the "
                "model's own tokenizer."
            )
    else:
        scored = np.ones(starts[-1], dtype=np.bool_)
        scored[starts[:-1][np.diff(starts) > 0]] = False  # nothing comes before a first token
    return Tokens(
        task=task,
        ids=_flat(ids),
        types=None if types is None else _flat(types),
        starts=starts,
        labels=labels,
        pad_id=int(tokenizer.pad_token_id or 0),
        scored=scored,
    )


def _flat(rows: list[list[int]]) -> NDArray[np.int64]:
    return np.fromiter((token for row in rows for token in row), dtype=np.int64)
