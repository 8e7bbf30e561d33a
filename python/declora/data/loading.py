"""Makes the data of a run of what the user gave: finds, reads and checks it, counts labels, draws evaluation rows."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from declora.data import sources
from declora.data.chats import CONVERSATION, messages_of
from declora.data.client_files import ClientFiles
from declora.data.columns import Columns, check_texts, choose_columns
from declora.data.labels import Found, Labels, check_few, check_split, find_labels, read_labels
from declora.data.parts import Part
from declora.data.preset_columns import preset_columns, render_templates
from declora.data.prompts import template_fields
from declora.data.text_data import TextData
from declora.data.unread import check_unread, columns_note
from declora.errors import ConfigError, DataError, shown
from declora.seeds import generator

__all__ = ["Reading", "load"]

_MOST_NOTES = 20
HELD_OUT = "held-out"
"""What `eval_data` is for rows of the training data, whatever there is to evaluate on."""


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

    Labels become class indices. A `ClassLabel` keeps its names and order; other labels are sorted, by value if all are
    integers (0..C-1 stay as they are), else by name. White space around a label, and the ways to write one whole
    number, make no other class. Classes of the training data that the evaluation data lacks are noted; a label of the
    evaluation data that training does not know (or declare) is an error. What was guessed is said in `TextData.notes`.

    Args:
        data: One of: `"stdlib-docstrings"` (needs no download); the path of a csv, tsv, json, jsonl, txt (one text a
            line) or parquet file, plain or .gz, or of a folder with files named by split, in it or in its folder
            `data` (`train.*`, `validation.*` or `dev.*`, `test.*`, also numbered as on the hub), or written by
            `save_to_disk`; a `datasets.Dataset`, with the rows that access to it gives; a `pandas.DataFrame` or other
            table that Arrow can read; a list of row dicts; a `DatasetDict` or other mapping from split to one of
            these; a Hugging Face hub name, `"name"` or `"name:config"`; a task of `declora.data.presets`, `"sst2"` for
            the hub's data or `"sst2=SOURCE"` for any path or hub name; a list of these with one item per client; the
            `ClientFiles` of some clients.
        eval_data: The same for evaluation; `"held-out"`: a random `eval_fraction` of the training rows, drawn per
            class; none: the validation split of `data`, else its test split, else as held-out. With clients' files as
            `data`, all but one that is the same for all are each client's own.
        task: `"classification"` or `"causal-lm"`; none: classification where there is a label column, else causal-lm
            where no other column may be a label.
        text_columns: One column or a pair; the columns of the prompt; or one of conversations, lists of
            `{"role": ..., "content": ...}`. None: those of `prompt_template`, else well-known names (messages;
            prompt, question, instruction and input; text, sentence, sentence1 and sentence2, ...).
        label_column: None: label, labels or target.
        completion_column: What continues the prompt, a text or, where the prompt is a list of messages, messages. None:
            completion, response, output or answer, where the text columns are found by their well-known names too or
            `prompt_template` asks for it.
        prompt_template: How the prompt is written, checked here against the columns; see `SimulationConfig`.
        eval_fraction: Share held out where nothing else says what to evaluate on, above 0 and below 1.
        seed: Of the held-out rows.

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: The data is missing, damaged, does not hold what the task needs, or can be read in two ways.
    """
    reading = Reading(
        data,
        eval_data=eval_data,
        task=task,
        text_columns=text_columns,
        label_column=label_column,
        completion_column=completion_column,
        prompt_template=prompt_template,
        eval_fraction=eval_fraction,
        seed=seed,
    )
    columns = reading.choose()
    return reading.text(columns, [reading.check(columns)])


class Reading:
    """Data between its files and what a run learns from, in steps, since some of it may be on other hosts.

    `choose` says what is read, `check` whether that is there, and `text` makes the data, with the classes of all.

    Args:
        data: As in `load`.
        eval_data: As in `load`.
        eval_fraction: As in `load`.
        seed: Of held-out rows.
        **wanted: The task and the columns, as in `load`.

    Raises:
        ConfigError, DataError: As `load`.
    """

    def __init__(self, data: Any, *, eval_data: Any, eval_fraction: float, seed: int, **wanted: Any) -> None:
        if not isinstance(eval_fraction, int | float | np.number) or not 0 < eval_fraction < 1:
            raise ConfigError(f"eval_fraction={shown(eval_fraction)} must be above 0 and below 1, e.g. 0.1.")
        source = sources.find(data)
        held_out = isinstance(eval_data, str) and eval_data == HELD_OUT
        own = eval_data is None or held_out or isinstance(eval_data, ClientFiles)
        self._own = own and source.first is not None
        """Whether each client is evaluated on rows of its own."""
        if held_out:
            source = replace(source, evaluation=())
        elif eval_data is not None:
            source = replace(source, evaluation=sources.find_evaluation(eval_data))
        preset = source.preset
        if preset is not None and wanted["text_columns"] is None:
            train, evaluation = (
                tuple(render_templates(preset, part) for part in parts) for parts in (source.train, source.evaluation)
            )
            source = replace(source, train=train, evaluation=evaluation)
        self._source, self._wanted, self._fraction, self._seed = source, wanted, eval_fraction, seed
        self._written: list[list[str]] = []

    @property
    def _named(self) -> bool:
        """Whether the user said which column is the label."""
        return self._wanted["label_column"] is not None

    def choose(self) -> Columns:
        """Returns what is read of all parts, as the first training part has it.

        Raises:
            ConfigError, DataError: As `load`.
        """
        first, preset = self._source.train[0], self._source.preset
        if preset is None:
            return choose_columns(first, **self._wanted)
        return preset_columns(preset, first, **self._wanted)

    def check(self, columns: Columns, *, told: bool = False) -> Found:
        """Checks that all parts have what is read; returns the labels of the training parts.

        Args:
            columns: What is read.
            told: Whether others will be told these labels, so that they must be labels, and no texts.

        Raises:
            DataError: As `load`.
        """
        train, evaluation = self._source.train, self._source.evaluation
        for part in (*train, *evaluation):
            check_texts(part, columns)
        if self._source.preset is None:
            texts_given = bool(self._wanted["text_columns"] or template_fields(self._wanted["prompt_template"]))
            check_unread(train, columns, task_given=self._wanted["task"] is not None, texts_given=texts_given)
        if columns.label is None:
            return Found({}, sum(part.dataset.num_rows for part in train))
        found, self._written = find_labels(train, evaluation, columns.label, self._source.preset)
        if told and not self._named and found.declared is None:
            for part, labels in zip(train, self._written, strict=True):
                check_few(part.where, columns.label, sorted(set(labels)), len(labels), told=True)
        return found

    def text(self, columns: Columns, everywhere: Sequence[Found]) -> TextData:
        """Returns the data.

        Args:
            columns: What is read.
            everywhere: What `check` returned, and what it returned of training data on other hosts.

        Raises:
            DataError: As `load`.
        """
        source, wanted = self._source, self._wanted
        train, evaluation = source.train, source.evaluation
        notes = [note for part in (*train, *evaluation) for note in part.notes]
        if (
            wanted["text_columns"] is None
            or (columns.label, columns.completion) != (wanted["label_column"], wanted["completion_column"])
            or not (wanted["task"] or wanted["label_column"] or wanted["completion_column"])
        ):
            notes.append(columns_note(train, columns))
        labels = Labels.none(train, evaluation)
        if columns.label is not None:
            labels = read_labels(train, evaluation, columns.label, self._written, everywhere, named=self._named)
        train_rows = _joined(train, columns, labels.names, labels.train)
        owner = np.repeat(np.arange(len(train)), [part.dataset.num_rows for part in train])
        if evaluation:
            evaluation_rows = _joined(evaluation, columns, labels.names, labels.evaluation)
            evaluated = np.repeat(np.arange(len(evaluation)), [part.dataset.num_rows for part in evaluation])
        else:
            held = self._held_out(labels.train, owner, train)
            notes.append(
                f"The rows to evaluate on are {held.sum()} of {len(held)}: eval_fraction={self._fraction:g} of "
                f"{'each class' if columns.label else 'the rows'}{' of each client' * self._own}, drawn with "
                f"seed={self._seed}."
            )
            evaluation_rows, evaluated = train_rows.select(np.flatnonzero(held)), owner[held]
            train_rows, owner = train_rows.select(np.flatnonzero(~held)), owner[~held]
            labels = replace(labels, train=labels.train[~held], evaluation=labels.train[held])
        if columns.label is not None:
            notes += [*labels.notes, *check_split(labels)]
        return TextData(
            source.name,
            train_rows,
            evaluation_rows,
            columns.task,
            columns.texts,
            columns.label,
            labels.names,
            _shards(owner, train) if source.per_client else None,
            source.preset,
            columns.completion,
            columns.chat,
            _distinct(notes),
            source.first or 0,
            _rows_of(evaluated, len(train)) if self._own else None,
        )

    def _held_out(
        self, classes: NDArray[np.int64], owner: NDArray[np.int64], train: Sequence[Part]
    ) -> NDArray[np.bool_]:
        """Draws the rows to evaluate on, of each client's own where these stay with it, whoever else is here."""
        if not self._own:
            return _held_out(classes, self._fraction, generator(self._seed, "held-out evaluation"))
        assert self._source.first is not None
        held = np.zeros(len(classes), np.bool_)
        for client, part in enumerate(train):
            rng = generator(self._seed, "held-out evaluation", self._source.first + client)
            rows = owner == client
            held[rows] = _held_out(classes[rows], self._fraction, rng, of=f" of {part.where}")
        return held


def _joined(
    parts: Sequence[Part], columns: Columns, names: Sequence[str], indices: NDArray[np.int64]
) -> datasets.Dataset:
    """Returns the parts as one data set in memory order, with the columns that all of them have in the same type."""
    first, read = parts[0].dataset.features, set(columns.read)
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
    """Returns a text column in its one type: strings, or messages."""
    if columns.chat:
        return pa.array([messages_of(value) for value in part.dataset[column][:]], CONVERSATION)
    return table[column].cast(pa.string())


def _held_out(
    classes: NDArray[np.int64], fraction: float, rng: np.random.Generator, *, of: str = ""
) -> NDArray[np.bool_]:
    """Draws the evaluation rows: the fraction of each class, rounded, at least one and never all."""
    held = np.zeros(len(classes), np.bool_)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        count = min(max(1, math.floor(fraction * len(members) + 0.5)), len(members) - 1)
        held[rng.permutation(members)[:count]] = True
    if not held.any():
        raise DataError(
            f"Holding out eval_fraction={fraction}{of} for evaluation needs two rows, but there is only one"
            f"{' of each class' if len(classes) > 1 else ''}. Pass eval_data."
        )
    return held


def _shards(owner: NDArray[np.int64], parts: Sequence[Part]) -> tuple[NDArray[np.int64], ...]:
    shards = _rows_of(owner, len(parts))
    for shard, part in zip(shards, parts, strict=True):
        if len(shard) == 0:
            raise DataError(f"{part.where} has no rows left after holding out the evaluation rows. Pass eval_data.")
    return shards


def _rows_of(owner: NDArray[np.int64], clients: int) -> tuple[NDArray[np.int64], ...]:
    """Returns the rows of each client, int64, where `owner [rows]` says whose they are."""
    return tuple(np.flatnonzero(owner == client).astype(np.int64) for client in range(clients))


def _distinct(notes: Iterable[str]) -> tuple[str, ...]:
    """Returns each note once, and of very many (one for each client) the first ones with the number of the others."""
    distinct = tuple(dict.fromkeys(notes))
    more = len(distinct) - _MOST_NOTES
    return (*distinct[:_MOST_NOTES], f"There are {more} more such notes on the data.") if more > 0 else distinct
