"""The data of a run: texts and labels to train on and to evaluate on, whatever they came from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from declora.data import labels, sources
from declora.data.chats import CONVERSATION, conversation
from declora.data.columns import Columns, check_texts, choose_columns
from declora.data.preset_columns import preset_columns, render_templates
from declora.data.presets import Preset, Task
from declora.data.sources import Part, Source
from declora.errors import ConfigError, DataError
from declora.seeds import generator

__all__ = ["TextData", "load"]


@dataclass(frozen=True, eq=False)
class TextData:
    """Texts to train on and to evaluate on.

    Attributes:
        name: A short name for reports.
        train: The training rows of all clients; text columns are strings, the label column is a `ClassLabel`.
        evaluation: The rows to evaluate on, same columns.
        task: `"classification"` or `"causal-lm"`.
        text_columns: The text columns, in order: one or a pair to classify, those of the prompt, or the one column of
            conversations (lists of `{"role": ..., "content": ...}`).
        label_column: The column of class indices 0..C-1; None for causal-lm.
        label_names: Class names by index; empty for causal-lm.
        shards: Row indices (int64) into `train` by client, where the user gave one data set per client.
        preset: The well-known task that the data is, where the user named one.
        completion_column: What continues the prompt; None for plain text, conversations and classification.
        chat: Whether the text column holds conversations.
        notes: What was guessed in reading the data, in whole sentences.
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

    @property
    def has_prompts(self) -> bool:
        """Whether a row has a part to read and a part to write, so that an answer can be right or wrong."""
        return self.chat or self.completion_column is not None

    def keep(self, train: NDArray[np.int64], evaluation: NDArray[np.int64]) -> "TextData":
        """Returns the data with only these rows (ascending indices) of each split.

        Raises:
            DataError: No row is left, or a client whose own data set was given has none left.
        """
        if len(train) == self.train.num_rows and len(evaluation) == self.evaluation.num_rows:
            return self
        shards = None
        if self.shards is not None:
            shards = tuple(np.flatnonzero(np.isin(train, shard)).astype(np.int64) for shard in self.shards)
        empty = next((i for i, shard in enumerate(shards or ()) if len(shard) == 0), None)
        if empty is not None or not len(train) or not len(evaluation):
            where = "the training data" if not len(train) else "the evaluation data"
            where = where if empty is None else f"data[{empty}]"
            raise DataError(f"{where} has no row left with a token to predict. Raise max_length, or check the texts.")
        return replace(
            self, train=self.train.select(train), evaluation=self.evaluation.select(evaluation), shards=shards
        )

    def labels(self) -> NDArray[np.int64] | None:
        """Returns the class index of each training row, int64 `[rows]`; None for causal-lm."""
        return None if self.label_column is None else np.asarray(self.train[self.label_column][:], dtype=np.int64)


def load(
    data: Any,
    *,
    eval_data: Any = None,
    task: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    label_column: str | None = None,
    completion_column: str | None = None,
    prompt_template: str | None = None,
    eval_fraction: float = 0.1,
    seed: int = 0,
) -> TextData:
    """Loads and checks the data of a run.

    Labels become class indices. A `ClassLabel` keeps its names and order; other labels are sorted, by value
    if all are integers (0..C-1 stay as they are), else by name. Evaluation labels must be those of training:
    a class in one of the two that the other lacks is an error.

    Args:
        data: One of: `"stdlib-docstrings"` (needs no download); the path of a csv, tsv, json, jsonl or
            parquet file, plain or .gz, or of a folder with files named by split (`train.*`, `validation.*` or
            `dev.*`, `test.*`) or written by `save_to_disk`; a `datasets.Dataset`; a `DatasetDict` or other
            mapping from split to data set or path; a Hugging Face hub name, `"name"` or `"name:config"`; a task
            of `declora.data.presets`, `"sst2"` for the hub's data or `"sst2=SOURCE"` for any path or hub name; a
            list of these with one item per client.
        eval_data: The same for evaluation; none: the validation split of `data`, else its test split, else a
            random `eval_fraction` of the training rows, drawn per class.
        task: `"classification"` or `"causal-lm"`; none: classification where there is a label column.
        text_columns: One column or a pair; the columns of the prompt; or one of conversations, lists of
            `{"role": ..., "content": ...}`. None: those of `prompt_template`, else well-known names (messages;
            prompt, question, instruction and input; text, sentence, sentence1 and sentence2, ...).
        label_column: None: label, labels or target.
        completion_column: What continues the prompt. None: completion, response, output or answer, where
            the text columns are found by their well-known names too or `prompt_template` asks for it.
        prompt_template: How the prompt is written, checked here against the columns; see `SimulationConfig`.
        eval_fraction: Share held out where nothing else says what to evaluate on, above 0 and below 1.
        seed: Of the held-out rows.

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: The data is missing, damaged, or does not hold what the task needs.
    """
    if not 0 < eval_fraction < 1:
        raise ConfigError(f"eval_fraction={eval_fraction!r} must be above 0 and below 1, e.g. 0.1.")
    source = sources.find(data)
    if eval_data is not None:
        source = replace(source, evaluation=sources.find_evaluation(eval_data))
    train, evaluation, columns = _columns(
        source,
        task=task,
        text_columns=text_columns,
        label_column=label_column,
        completion_column=completion_column,
        prompt_template=prompt_template,
    )
    names, train_labels, evaluation_labels = _labels(train, evaluation, columns, source.preset)
    train_rows = _joined(train, columns, train_labels, names)
    owner = np.repeat(np.arange(len(train)), [part.dataset.num_rows for part in train])
    if evaluation:
        evaluation_rows = _joined(evaluation, columns, evaluation_labels, names)
    else:
        held = _held_out(train_labels, names, train_rows.num_rows, eval_fraction, seed)
        train_rows, evaluation_rows = (
            train_rows.select(np.flatnonzero(~held)),
            train_rows.select(np.flatnonzero(held)),
        )
        if train_labels is not None:
            train_labels, evaluation_labels = train_labels[~held], train_labels[held]
        owner = owner[~held]
    if train_labels is not None and evaluation_labels is not None:
        labels.check_split(train_labels, evaluation_labels, names)
    return TextData(
        source.name,
        train_rows,
        evaluation_rows,
        columns.task,
        columns.texts,
        columns.label,
        names,
        _shards(owner, train) if source.per_client else None,
        source.preset,
        columns.completion,
        columns.chat,
    )


def _columns(source: Source, **wanted: Any) -> tuple[tuple[Part, ...], tuple[Part, ...], Columns]:
    """Returns the training and evaluation parts, all with the columns to read, and these columns."""
    train, evaluation, preset = source.train, source.evaluation, source.preset
    if preset is None:
        columns = choose_columns(train[0], **wanted)
    else:
        if wanted["text_columns"] is None:
            train, evaluation = (
                tuple(render_templates(preset, part) for part in parts) for parts in (train, evaluation)
            )
        columns = preset_columns(preset, train[0], **wanted)
    for part in (*train, *evaluation):
        check_texts(part, columns)
    return train, evaluation, columns


def _labels(
    train: Sequence[Part], evaluation: Sequence[Part], columns: Columns, preset: Preset | None
) -> tuple[tuple[str, ...], NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Returns the class names (the data's own, else the preset's) and the class indices of both parts' rows."""
    if columns.label is None:
        return (), None, None
    declared = labels.declared_names(train, columns.label) or labels.declared_names(evaluation, columns.label)
    if preset and declared and len(declared) != len(preset.classes):
        raise DataError(
            f"{train[0].where} declares the classes {list(declared)}, but {preset.name!r} has {list(preset.classes)}. "
            f"Leave out '{preset.name}=', or map the labels."
        )
    declared = declared or (preset.classes if preset else None)
    train_texts = [labels.label_texts(part, columns.label, declared) for part in train]
    evaluation_texts = [labels.label_texts(part, columns.label, declared) for part in evaluation]
    names = declared or labels.class_names(text for texts in train_texts for text in texts)
    indices = [
        np.concatenate(
            [labels.class_indices(text, names, part.where) for text, part in zip(texts, parts, strict=True)]
            or [np.empty(0, np.int64)]
        )
        for texts, parts in ((train_texts, train), (evaluation_texts, evaluation))
    ]
    return names, indices[0], indices[1]


def _joined(
    parts: Sequence[Part], columns: Columns, indices: NDArray[np.int64] | None, names: Sequence[str]
) -> datasets.Dataset:
    """Returns the parts as one data set in memory order, with the columns that all of them have in the same type."""
    first = parts[0].dataset.features
    read = {*columns.texts, *([] if columns.completion is None else [columns.completion])}
    kept = [
        name
        for name in first
        if name in read
        or (name != columns.label and all(part.dataset.features.get(name) == first[name] for part in parts))
    ]
    tables = []
    for part in parts:
        table = part.dataset.with_format("arrow")[:].select(kept)
        for column in read & set(kept):
            place = table.column_names.index(column)
            table = table.set_column(place, column, _read(part, table, column, columns))
        tables.append(table.replace_schema_metadata(None))
    table = pa.concat_tables(tables)
    features = {name: first[name] for name in kept}
    features |= {name: datasets.Features.from_arrow_schema(table.schema)[name] for name in read & set(kept)}
    if columns.label is not None:
        table = table.append_column(columns.label, pa.array(indices))
        features[columns.label] = datasets.ClassLabel(names=list(names))
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=datasets.Features(features)))


def _read(part: Part, table: pa.Table, column: str, columns: Columns) -> pa.Array:
    """Returns a text column in its one type: strings, or conversations."""
    if columns.chat:
        return pa.array([conversation(value) for value in part.dataset[column][:]], CONVERSATION)
    return table[column].cast(pa.string())


def _held_out(
    classes: NDArray[np.int64] | None, names: Sequence[str], rows: int, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Draws the evaluation rows: the fraction of each class, rounded, at least one and never all."""
    strata = np.zeros(rows, np.int64) if classes is None else classes
    held = np.zeros(rows, np.bool_)
    rng = generator(seed, "held-out evaluation")
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if len(members) < 2:
            what = f"class {names[stratum]!r} has" if classes is not None else "there is"
            raise DataError(
                f"Holding out eval_fraction={fraction} for evaluation needs two rows, but {what} only one. "
                "Pass eval_data."
            )
        count = min(max(1, math.floor(fraction * len(members) + 0.5)), len(members) - 1)
        held[rng.permutation(members)[:count]] = True
    return held


def _shards(owner: NDArray[np.int64], parts: Sequence[Part]) -> tuple[NDArray[np.int64], ...]:
    shards = tuple(np.flatnonzero(owner == client).astype(np.int64) for client in range(len(parts)))
    for shard, part in zip(shards, parts, strict=True):
        if len(shard) == 0:
            raise DataError(f"{part.where} has no rows left after holding out the evaluation rows. Pass eval_data.")
    return shards
