"""Data: one data set per client, columns, labels, held-out rows, and every way they can be wrong."""

import collections
import os
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once

import datasets

from data_rows import ROWS, data, pairs, rows_to
from declora.data import load
from declora.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the real text data in {SHARED}")

# --- one data set per client


def test_a_list_gives_each_client_its_own_rows(tmp_path: Path) -> None:
    given = [data(ROWS[:3]), rows_to(tmp_path / "b.csv", ROWS[3:4]), data(ROWS[4:])]
    loaded = load(given, eval_data=data(ROWS))
    assert loaded.shards is not None
    assert [shard.tolist() for shard in loaded.shards] == [[0, 1, 2], [3], [4, 5, 6, 7]]
    assert all(shard.dtype == np.int64 for shard in loaded.shards)
    assert pairs(loaded.train) == ROWS


def test_held_out_rows_leave_the_shards_and_the_rest_still_belongs_to_its_client() -> None:
    clients = [[(f"client {c} row {i}", i % 2) for i in range(20)] for c in range(3)]
    loaded = load([data(rows) for rows in clients], eval_fraction=0.2, seed=5)
    assert loaded.shards is not None
    texts = loaded.train["text"][:]
    for client, shard in enumerate(loaded.shards):
        assert len(shard) > 0
        assert all(texts[row].startswith(f"client {client} ") for row in shard)
    assert sum(map(len, loaded.shards)) == loaded.train.num_rows == 48
    assert set(texts).isdisjoint(loaded.evaluation["text"][:])


def test_a_client_left_without_rows_by_the_held_out_ones_is_an_error() -> None:
    # One of the two rows of each class is held out: whatever the seed, two of the four clients lose theirs.
    clients = [data([row]) for row in (("a", 0), ("b", 0), ("c", 1), ("d", 1))]
    with pytest.raises(DataError, match=r"data\[[01]\] has no rows left.*eval_data"):
        load(clients, eval_fraction=0.5)


def test_lists_that_cannot_be_one_data_set_per_client_are_errors() -> None:
    with pytest.raises(DataError, match="empty list"):
        load([])
    with pytest.raises(DataError, match=r"list.*within the list"):
        load([[data(ROWS)], data(ROWS)])
    with pytest.raises(DataError, match=r"data\[1\] has no evaluation split but others have"):
        load([{"train": data(ROWS), "test": data(ROWS)}, data(ROWS)])
    with pytest.raises(DataError, match=r"data\[1\] has no column 'text'.*\['body', 'label'\]"):
        load([data(ROWS), data(ROWS, ("body", "label"))])
    with pytest.raises(DataError, match=r"data\[1\] has no rows"):
        load([data(ROWS), data([])])


def test_clients_with_different_class_names_are_an_error() -> None:
    a = data(ROWS).cast_column("label", datasets.ClassLabel(names=["neg", "pos"]))
    b = data(ROWS).cast_column("label", datasets.ClassLabel(names=["pos", "neg"]))
    with pytest.raises(DataError, match="different class names in 'label'"):
        load([a, b])


def test_a_data_set_with_selected_rows_gives_those_rows_in_that_order() -> None:
    chosen = data(ROWS).select([7, 2, 1, 4])
    assert pairs(load(chosen, eval_data=data(ROWS)).train) == [ROWS[i] for i in (7, 2, 1, 4)]


# --- columns and task


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (("sentence", "label"), ("sentence",)),
        (("text", "labels"), ("text",)),
        (("body", "target"), ("body",)),
        (("sentence1", "sentence2", "label"), ("sentence1", "sentence2")),
        (("question1", "question2", "label"), ("question1", "question2")),
        (("premise", "hypothesis", "label"), ("premise", "hypothesis")),
        (("question", "sentence", "label"), ("question", "sentence")),
    ],
)
def test_well_known_columns_are_found(columns: tuple[str, ...], found: tuple[str, ...]) -> None:
    rows = [(*[f"text {i}"] * (len(columns) - 1), i % 2) for i in range(8)]
    loaded = load(data(rows, columns))
    assert (loaded.task, loaded.text_columns, loaded.label_column) == ("classification", found, columns[-1])


def test_without_a_label_column_the_task_is_causal_lm() -> None:
    loaded = load(data([("2+2?", "4"), ("3+3?", "6")] * 5, ("question", "answer")))
    assert (loaded.task, loaded.text_columns, loaded.completion_column) == ("causal-lm", ("question",), "answer")
    assert (loaded.label_column, loaded.label_names, loaded.labels()) == (None, (), None)
    assert loaded.evaluation.num_rows == 1


def test_the_users_columns_and_task_come_first() -> None:
    rows = [(f"a{i}", f"b{i}", i % 3, i % 2) for i in range(12)]
    given = data(rows, ("text", "body", "label", "stars"))
    chosen = load(given, text_columns="body", label_column="stars")
    assert (chosen.text_columns, chosen.label_column, chosen.label_names) == (("body",), "stars", ("0", "1"))
    assert chosen.train.column_names == ["text", "body", "label", "stars"]
    assert load(given, text_columns=["body", "text"]).text_columns == ("body", "text")
    assert load(given, task="causal-lm").label_column is None


def test_missing_columns_are_errors_that_list_the_columns_found() -> None:
    given = data([("a", "b", 0), ("c", "d", 1)], ("body", "title", "label"))
    with pytest.raises(DataError, match=r"no text column.*\['body', 'title', 'label'\].*text_columns"):
        load(given)
    with pytest.raises(DataError, match=r"no column 'text'.*\['body', 'title', 'label'\]"):
        load(given, text_columns="text")
    with pytest.raises(DataError, match=r"no column 'class'.*\['body', 'title', 'label'\]"):
        load(given, text_columns="body", label_column="class")
    with pytest.raises(DataError, match=r"no label column.*task='classification'.*\['text'\]"):
        load(data([("a",)], ("text",)), task="classification")


def test_settings_out_of_range_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"task='classify'.*Did you mean 'classification'"):
        load(data(ROWS), task="classify")
    with pytest.raises(ConfigError, match=r"label_column='label'.*task='causal-lm'"):
        load(data(ROWS), task="causal-lm", label_column="label")
    with pytest.raises(ConfigError, match=r"text_columns=\['text', 'text'\].*twice"):
        load(data(ROWS), text_columns=["text", "text"])
    with pytest.raises(ConfigError, match=r"text_columns=\['a', 'b', 'c'\].*one text or a pair"):
        load(data(ROWS), text_columns=["a", "b", "c"])
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=f"eval_fraction={fraction}.*e.g. 0.1"):
            load(data(ROWS), eval_fraction=fraction)


@pytest.mark.parametrize(("text", "problem"), [(None, "null"), ("", "empty"), (" \t", "empty")])
def test_a_missing_text_is_an_error_that_names_the_row(text: str | None, problem: str) -> None:
    with pytest.raises(DataError, match=rf"'text' of row 3 \(the first is 0\) is {problem}"):
        load(data([*ROWS[:3], (text, 1), *ROWS[3:]]))
    with pytest.raises(DataError, match=rf"eval_data: the text in column 'text' of row 1 .* is {problem}"):
        load(data(ROWS), eval_data=data([ROWS[0], (text, 0)]))


def test_a_text_column_of_numbers_is_an_error() -> None:
    with pytest.raises(DataError, match=r"column 'text' of row 0 .* holds 3, not a text"):
        load(data([(3, 0), (4, 1)]))


# --- labels


def test_string_labels_are_sorted_into_class_names() -> None:
    loaded = load(data([("a", "spam"), ("b", "ham"), ("c", "Eggs")] * 4), eval_fraction=0.25)
    assert loaded.label_names == ("Eggs", "ham", "spam")
    labels = loaded.labels()
    assert labels is not None
    assert [loaded.label_names[i] for i in labels] == [
        {"a": "spam", "b": "ham", "c": "Eggs"}[t] for t in loaded.train["text"]
    ]


def test_integer_labels_keep_their_index_or_are_sorted_by_value() -> None:
    twelve = [(f"t{i}", i) for i in range(12)]
    assert load(data(twelve), eval_data=data(twelve)).train["label"][:] == list(range(12))
    stars = [("a", 10), ("b", 9), ("c", 1)]
    loaded = load(data(stars), eval_data=data(stars))
    assert (loaded.label_names, loaded.train["label"][:]) == (("1", "9", "10"), [2, 1, 0])
    booleans = [("a", True), ("b", False)]
    assert load(data(booleans), eval_data=data(booleans)).train["label"][:] == [1, 0]


def test_a_class_label_keeps_its_names_and_order() -> None:
    given = data(ROWS).cast_column("label", datasets.ClassLabel(names=["zero", "a one"]))
    loaded = load(given, eval_data=given)
    assert (loaded.label_names, loaded.train["label"][:]) == (("zero", "a one"), [label for _, label in ROWS])


def test_evaluation_labels_follow_the_names_of_training_not_their_own_order() -> None:
    train = data(ROWS).cast_column("label", datasets.ClassLabel(names=["neg", "pos"]))
    swapped = data([("x", 0), ("y", 1)]).cast_column("label", datasets.ClassLabel(names=["pos", "neg"]))
    assert load(train, eval_data=swapped).evaluation["label"][:] == [1, 0]
    assert load(train, eval_data=data([("x", "pos"), ("y", "neg")])).evaluation["label"][:] == [1, 0]
    assert load(train, eval_data=data([("x", 1), ("y", 0)])).evaluation["label"][:] == [1, 0]


@pytest.mark.parametrize(
    ("label", "reason"),
    [(None, "is null"), (-1, "hidden label.*validation"), (0.5, "is 0.5, not a class"), (float("nan"), "is nan")],
)
def test_a_label_that_is_none_is_an_error_that_names_the_row(label: float | None, reason: str) -> None:
    rows = [("a", 0), ("b", 1), ("c", label)]
    with pytest.raises(DataError, match=f"'label' of row 2 .*{reason}"):
        load(data(rows))
    with pytest.raises(DataError, match=f"eval_data: .* row 2 .*{reason}"):
        load(data(ROWS), eval_data=data(rows))


def test_list_labels_and_numbers_beyond_the_class_names_are_errors() -> None:
    with pytest.raises(DataError, match=r"row 0 .* is \[0, 1\], not a class"):
        load(data([("a", [0, 1]), ("b", [1])]))
    named = data(ROWS).cast_column("label", datasets.ClassLabel(names=["neg", "pos"]))
    with pytest.raises(DataError, match=r"eval_data: label 2 of row 1 is beyond the 2 classes \['neg', 'pos'\]"):
        load(named, eval_data=data([("a", 0), ("b", 2)]))


def test_a_class_that_the_evaluation_data_lacks_is_noted_and_the_rest_evaluated() -> None:
    loaded = load(data(ROWS), eval_data=data([("a", 1)]))
    assert (loaded.label_names, loaded.evaluation["label"][:]) == (("0", "1"), [1])
    assert any("no row of ['0']" in note for note in loaded.notes)


def test_an_evaluation_label_that_training_does_not_know_is_an_error_unless_it_is_declared() -> None:
    with pytest.raises(DataError, match=r"eval_data has the label '2'.*\['0', '1'\]"):
        load(data(ROWS), eval_data=data([("a", 1), ("b", 2), ("c", 0)]))
    three = datasets.ClassLabel(names=["n", "p", "x"])
    evaluation = data([("a", 0), ("b", 1), ("c", 2)]).cast_column("label", three)
    loaded = load(data(ROWS).cast_column("label", three), eval_data=evaluation)
    assert loaded.evaluation["label"][:] == [0, 1, 2]
    assert any("training data has no row of ['x']" in note for note in loaded.notes)


def test_one_class_alone_is_an_error() -> None:
    with pytest.raises(DataError, match=r"All labels.* are '1'.*two classes"):
        load(data([("a", 1), ("b", 1)]), eval_data=data([("a", 1)]))


# --- held-out evaluation rows


def test_held_out_rows_are_the_fraction_of_each_class_and_disjoint_from_training() -> None:
    rows = [(f"t{i}", int(i >= 70)) for i in range(100)]
    loaded = load(data(rows), eval_fraction=0.1, seed=1)
    assert collections.Counter(loaded.evaluation["label"]) == {0: 7, 1: 3}
    assert sorted(pairs(loaded.train) + pairs(loaded.evaluation)) == sorted(rows)
    assert pairs(loaded.train) == sorted(pairs(loaded.train), key=rows.index)


def test_held_out_rows_depend_on_the_seed_alone() -> None:
    rows = [(f"t{i}", i % 2) for i in range(100)]
    first, again, other = (load(data(rows), seed=seed).evaluation["text"][:] for seed in (1, 1, 2))
    assert first == again != other


def test_the_single_row_of_a_class_is_trained_on() -> None:
    loaded = load(data([("a", 0), ("b", 0), ("c", 1)]), eval_fraction=0.5)
    assert ("c", 1) in pairs(loaded.train)
    assert loaded.evaluation["label"][:] == [0]
    assert any("evaluation data has no row of ['1']" in note for note in loaded.notes)


def test_nothing_can_be_held_out_of_single_rows() -> None:
    with pytest.raises(DataError, match=r"eval_fraction=0\.1.*two rows.*only one of each class.*eval_data"):
        load(data([("a", 0), ("c", 1)]))
    with pytest.raises(DataError, match=r"two rows, but there is only one\. Pass eval_data"):
        load(data([("a",)], ("text",)))


# --- real data


@needs_shared
def test_sst2_has_the_published_rows_and_labels() -> None:
    loaded = load(SHARED / "sst2")
    assert (loaded.train.num_rows, loaded.evaluation.num_rows) == (67_349, 872)
    assert np.bincount(loaded.train["label"][:]).tolist() == [29_780, 37_569]
    assert loaded.evaluation[0]["sentence"] == "it 's a charming and often affecting journey . "


@needs_shared
@pytest.mark.parametrize(
    ("task", "rows", "columns"),
    [("mrpc", (3_668, 408), ("sentence1", "sentence2")), ("mnli", (3_000, 9_815), ("sentence1", "sentence2"))],
)
def test_sentence_pairs_are_read_without_quoting(task: str, rows: tuple[int, int], columns: tuple[str, ...]) -> None:
    loaded = load(SHARED / task)
    assert (loaded.train.num_rows, loaded.evaluation.num_rows) == rows
    assert loaded.text_columns == columns
    if task == "mrpc":
        assert loaded.evaluation[0]["sentence2"].startswith('" The foodservice')


@needs_shared
def test_gsm8k_is_text_to_continue() -> None:
    loaded = load(SHARED / "gsm8k" / "train.tsv.gz", eval_data=SHARED / "gsm8k" / "validation.tsv.gz")
    assert (loaded.task, loaded.text_columns, loaded.completion_column) == ("causal-lm", ("question",), "answer")
    assert (loaded.train.num_rows, loaded.evaluation.num_rows) == (7_473, 1_319)
