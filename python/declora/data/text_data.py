"""Holds the data of a run: texts and labels to train on and to evaluate on, whatever they came from."""

from dataclasses import dataclass, replace

import datasets
import numpy as np
from numpy.typing import NDArray

from declora.data.presets import Preset, Task
from declora.errors import DataError

__all__ = ["TextData"]


@dataclass(frozen=True, eq=False)
class TextData:
    """Holds texts to train on and to evaluate on.

    Attributes:
        name: A short name for reports.
        train: The training rows of all clients; text columns are strings, the label column is a `ClassLabel`.
        evaluation: The rows to evaluate on, same columns.
        task: `"classification"` or `"causal-lm"`.
        text_columns: The text columns, in order: one or a pair to classify, those of the prompt, or the one column of
            conversations or of prompts as messages (lists of `{"role": ..., "content": ...}`).
        label_column: The column of class indices 0..C-1; None for causal-lm.
        label_names: Class names by index; empty for causal-lm.
        shards: Row indices (int64) into `train` by client, where the user gave one data set per client.
        preset: The well-known task that the data is, where the user named one.
        completion_column: What continues the prompt; None for plain text, conversations and classification.
        chat: Whether the text column holds conversations; with a completion column both hold messages.
        notes: What was guessed in reading the data, in whole sentences.
        first: The number of the first client that `shards` has; others are on other hosts.
        evaluation_shards: Row indices (int64) into `evaluation` by client, as `shards`, where each client is evaluated
            on rows of its own; None: all on the same.
    """

    name: str
    train: datasets.Dataset
    evaluation: datasets.Dataset
    task: Task
    text_columns: tuple[str, ...]
    label_column: str | None
    label_names: tuple[str, ...]
    shards: tuple[NDArray[np.int64], ...] | None
    preset: Preset | None = None
    completion_column: str | None = None
    chat: bool = False
    notes: tuple[str, ...] = ()
    first: int = 0
    evaluation_shards: tuple[NDArray[np.int64], ...] | None = None

    @property
    def has_prompts(self) -> bool:
        """Whether a row has a part to read and a part to write, so that an answer can be right or wrong."""
        return self.chat or self.completion_column is not None

    def without_rows(self) -> "TextData":
        """Returns what is known of the data, without the data."""
        none = datasets.Dataset.from_dict({})
        return replace(self, train=none, evaluation=none, shards=None, evaluation_shards=None)

    def keep(self, train: NDArray[np.int64], evaluation: NDArray[np.int64]) -> "TextData":
        """Returns the data with only these rows (ascending indices) of each split.

        Raises:
            DataError: No row is left, or a client whose own data set was given has none left.
        """
        if len(train) == self.train.num_rows and len(evaluation) == self.evaluation.num_rows:
            return self
        kept = {"data": _kept(self.shards, train), "eval_data": _kept(self.evaluation_shards, evaluation)}
        empty = [(name, i) for name, shards in kept.items() for i, shard in enumerate(shards or ()) if len(shard) == 0]
        if empty or not len(train) or not len(evaluation):
            where = "the training data" if not len(train) else "the evaluation data"
            if empty:
                name, client = empty[0]
                where = f"{name}[{self.first + client}]"
            raise DataError(f"{where} has no row left with a token to predict. Raise max_length, or check the texts.")
        return replace(
            self,
            train=self.train.select(train),
            evaluation=self.evaluation.select(evaluation),
            shards=kept["data"],
            evaluation_shards=kept["eval_data"],
        )

    def labels(self) -> NDArray[np.int64] | None:
        """Returns the class index of each training row, int64 `[rows]`; None for causal-lm."""
        return None if self.label_column is None else np.asarray(self.train[self.label_column][:], dtype=np.int64)


def _kept(
    shards: tuple[NDArray[np.int64], ...] | None, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...] | None:
    """Returns where the rows of each client are once only `rows`, rising, are kept."""
    if shards is None:
        return None
    return tuple(np.flatnonzero(np.isin(rows, shard)).astype(np.int64) for shard in shards)
