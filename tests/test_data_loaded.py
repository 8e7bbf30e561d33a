"""Data in memory: data sets as access to them shows them, tables, row dicts and conversations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from data_rows import ROWS, data, pairs, rows_to
from declora.data import load
from declora.errors import DataError

DICTS = [{"text": text, "label": label} for text, label in ROWS]
CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]

# --- formats and transforms


@pytest.mark.parametrize("form", ["torch", "numpy", "arrow", "pandas"])
def test_a_format_is_only_the_wrapping_of_the_rows(form: str) -> None:
    given = data(ROWS).cast_column("label", datasets.ClassLabel(names=["neg", "pos"]))
    loaded = load(given.with_format(form), eval_data=given.with_format(form))
    assert pairs(loaded.train) == pairs(loaded.evaluation) == ROWS
    assert loaded.label_names == ("neg", "pos")


def test_columns_that_a_format_hides_are_not_read() -> None:
    given = data([(*row, "x") for row in ROWS], ("text", "label", "note"))
    assert load(given.with_format("numpy", columns=["text", "label"])).train.column_names == ["text", "label"]
    with pytest.raises(DataError, match=r"no text column.*Columns found: \['label'\]"):
        load(given.with_format("torch", columns=["label"]))
    every = load(given.with_format("torch", columns=["label"], output_all_columns=True))
    assert every.train.column_names == ["text", "note", "label"]


@pytest.mark.parametrize("wrap", [list, np.array, lambda values: torch.tensor([int(value) for value in values])])
def test_what_a_transform_makes_of_the_rows_is_what_is_read(wrap: Callable[[Any], Any]) -> None:
    def flip(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return {"text": [text.upper() for text in batch["text"]], "label": wrap([1 - c for c in batch["label"]])}

    loaded = load(data(ROWS).with_transform(flip), eval_data=data(ROWS))
    assert pairs(loaded.train) == [(text.upper(), 1 - label) for text, label in ROWS]
    assert any("data has a transform" in note for note in loaded.notes)


def test_a_transform_is_asked_for_every_row_in_order() -> None:
    # 2,500 rows: more than one batch of what is asked for at a time.
    many = data([(f"t{i}", i % 2) for i in range(2500)])
    loaded = load(
        many.with_transform(lambda batch: {**batch, "text": [t + "!" for t in batch["text"]]}), eval_data=many
    )
    assert loaded.train["text"][:] == [f"t{i}!" for i in range(2500)]


def test_a_transform_leaves_class_names_to_the_labels_that_it_passes_on() -> None:
    named = data(ROWS).cast_column("label", datasets.ClassLabel(names=["neg", "pos"]))
    assert load(named.with_transform(lambda batch: batch)).label_names == ("neg", "pos")
    texts = named.with_transform(lambda batch: {**batch, "label": ["ab"[c] for c in batch["label"]]})
    assert load(texts).label_names == ("a", "b")
    beyond = named.with_transform(lambda batch: {**batch, "label": [c + 1 for c in batch["label"]]})
    with pytest.raises(DataError, match=r"label 2 of row 0 is beyond the 2 classes \['neg', 'pos'\]"):
        load(beyond)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda batch: {}["missing"], r"transform fails on rows 0 to 7 \(KeyError: 'missing'\)"),
        (lambda batch: batch["text"], r"transform fails on rows 0 to 7"),
        (lambda batch: {name: values[:1] for name, values in batch.items()}, r"of \[1\] rows"),
    ],
)
def test_a_transform_that_gives_no_rows_is_an_error(transform: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"data: its {message}|data: its transform makes.*{message}"):
        load(data(ROWS).with_transform(transform))


def test_a_data_set_of_texts_that_are_none_is_an_error() -> None:
    bytes_only = pa.array([b"fine", b"w1 \xff\xfe"], pa.binary()).cast(pa.string(), safe=False)
    given = datasets.Dataset(pa.table({"text": bytes_only, "label": [0, 1]}))
    with pytest.raises(DataError, match=r"data is damaged \(.*UTF8"):
        load(given)
    with pytest.raises(DataError, match=r"eval_data is damaged \(.*UTF8"):
        load(data(ROWS), eval_data=given)


# --- tables


def test_tables_of_pandas_and_arrow_are_read_without_their_index() -> None:
    frame = pd.DataFrame(DICTS, index=range(50, 58))
    for given in (frame, frame.astype({"label": "category"}), frame.convert_dtypes(), pa.Table.from_pandas(frame)):
        loaded = load(given, eval_data=frame)
        assert pairs(loaded.train) == ROWS
        assert loaded.label_names == ("0", "1")
    assert load(frame).train.column_names == ["text", "label"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"text": ["a", "b"], "label": [1, "x"]}), "DataFrame that cannot be read.*label"),
        (pd.DataFrame([["a", 0, 1]], columns=["text", "label", "label"]), "DataFrame.*label"),
        (pd.DataFrame({"text": [], "label": []}), "data has no rows"),
        (pd.DataFrame({"text": ["a", None], "label": [0, 1]}), "'text' of row 1 .* is null"),
        (pd.DataFrame(DICTS)["text"], "Series that cannot be read as a table"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), r"\['text'\] more than once"),
        (np.array(["a", "b"]), r"data is a ndarray.*pandas\.DataFrame"),
    ],
)
def test_tables_that_are_none_or_do_not_fit_are_errors(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(table)


# --- rows


def test_a_list_of_row_dicts_is_a_data_set(tmp_path: Path) -> None:
    assert pairs(load(DICTS, eval_data=DICTS).train) == ROWS
    assert load(DICTS).shards is None
    numpy = [{"text": np.str_(text), "label": np.int64(label)} for text, label in ROWS]
    assert pairs(load(numpy, eval_data=numpy).train) == ROWS
    splits = load({"train": DICTS, "validation": DICTS[:2]})
    assert (pairs(splits.train), pairs(splits.evaluation)) == (ROWS, ROWS[:2])


def test_clients_may_bring_row_dicts_tables_and_paths(tmp_path: Path) -> None:
    path = rows_to(tmp_path / "c.csv", ROWS)
    loaded = load([DICTS, pd.DataFrame(DICTS), path, str(path), data(ROWS)], eval_data=DICTS)
    assert loaded.shards is not None
    assert [shard.tolist() for shard in loaded.shards] == [list(range(8 * c, 8 * c + 8)) for c in range(5)]
    assert pairs(loaded.train) == ROWS * 5


def test_splits_of_each_client_are_not_taken_for_rows(tmp_path: Path) -> None:
    path = str(rows_to(tmp_path / "c.csv", ROWS))
    loaded = load([{"train": path, "test": path}, {"train": data(ROWS), "test": data(ROWS)}])
    assert (loaded.train.num_rows, loaded.evaluation.num_rows) == (16, 16)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": 0}, {"text": 5, "label": 1}], "column 'text' mixes types"),
        ([{"text": "a", "label": 10**30}, {"text": "b", "label": 1}], "row 0: column 'label' holds .*beyond 64 bits"),
        ([{"text": "a", "label": 10**5000}], "row 0: column 'label' holds <int>, a number beyond 64 bits"),
        ([{1: "a"}], "a column of the name 1"),
        ([{}], "no columns|no rows"),
        ([{"text": object()}], "column 'text' mixes types"),
        ([{"text": "a", "extra": {"n": [2**70]}}], "column 'extra' holds .*beyond 64 bits"),
    ],
)
def test_rows_that_do_not_fit_in_columns_are_errors(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(rows)


def test_a_dict_of_columns_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(DataError, match=r"data\['text'\] is a list.*from_dict"):
        load({"text": ["a", "b"], "label": [0, 1]})


@pytest.mark.parametrize(
    "text", ["a text of the user " * 20, "two words", "x" * 5000, "x" * 5000 + ".csv", "a\0b", "  "]
)
def test_a_text_in_place_of_a_path_is_cut_in_the_message(text: str) -> None:
    for given in (text, [text, text]):
        with pytest.raises(DataError) as caught:
            load(given)
        assert len(str(caught.value)) < 400


# --- conversations


def test_a_list_of_conversations_is_a_data_set() -> None:
    loaded = load([CHAT, CHAT, CHAT])
    assert (loaded.task, loaded.text_columns, loaded.chat) == ("causal-lm", ("messages",), True)
    assert loaded.train["messages"][0] == CHAT
    assert load([[CHAT, CHAT], [CHAT]], eval_data=[CHAT]).train.num_rows == 3


def test_rows_that_are_single_messages_are_an_error() -> None:
    with pytest.raises(DataError, match=r"rows are messages \(\['role', 'content'\]\), not conversations"):
        load(datasets.Dataset.from_list(CHAT * 4))
