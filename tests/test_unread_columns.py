"""Columns that a guess would pass over: labelled data is not learned as text unasked, and no text is read by half."""

from typing import Any

import datasets
import pytest

from data_rows import data
from declora.data import load
from declora.errors import DataError

CLASSES = ["good", "bad", "so so"] * 8


def rows(*names: str, **values: list[Any]) -> datasets.Dataset:
    """Returns 24 rows with these columns, of texts that do not repeat where no values are given."""
    return datasets.Dataset.from_dict({name: values.get(name, [f"{name} {i}" for i in range(24)]) for name in names})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sentiment", CLASSES),
        ("Category", list(range(24))),
        ("score", [i / 7 for i in range(24)]),
        ("anything", CLASSES),
        ("anything", [True, False] * 12),
        ("anything", [i % 5 for i in range(24)]),
        ("anything", [i / 7 for i in range(24)]),
    ],
)
def test_what_may_be_a_label_is_asked_about(name: str, values: list[Any]) -> None:
    given = rows("text", name, **{name: values})
    for settings in ({}, {"text_columns": "text"}):
        with pytest.raises(DataError, match=rf"'{name}', which may be a label.*label_column.*task='causal-lm'"):
            load(given, **settings)
    assert load(given, task="causal-lm").text_columns == ("text",)


def test_the_label_of_any_client_is_asked_about() -> None:
    # Each client has one class only: it is all of them together that repeat.
    clients = [rows("text", "kind", kind=[name] * 24) for name in ("good", "bad")]
    assert load(clients[0]).task == "causal-lm"
    with pytest.raises(DataError, match="'kind', which may be a label"):
        load(clients)


@pytest.mark.parametrize(
    ("name", "values"),
    [("id", list(range(24))), ("idx", CLASSES), ("url", None), ("lang", ["en"] * 24), ("meta", [{"a": 1}] * 24)],
)
def test_what_numbers_or_describes_the_rows_is_passed_over_and_said(name: str, values: list[Any] | None) -> None:
    loaded = load(rows("text", name, **({} if values is None else {name: values})))
    assert (loaded.task, loaded.text_columns) == ("causal-lm", ("text",))
    note = next(note for note in loaded.notes if note.startswith("Read as causal-lm: text 'text'"))
    assert (f"(not read: ['{name}'])" in note) == (name not in ("id", "idx"))


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("Text1", "TEXT2")])
def test_a_pair_without_a_label_is_asked_about(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"are a pair to classify, but there is no label.*task='causal-lm'"):
        load(rows(*names))
    assert load(rows(*names), task="causal-lm").text_columns == names


ANSWERS = [{"text": ["x"], "answer_start": [0]}] * 24


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        (rows("id", "title", "context", "question", "answers", answers=ANSWERS), ["context", "answers"]),
        (rows("question", "context", "answer"), ["context"]),
        (rows("system_prompt", "question", "response"), ["system_prompt"]),
        (rows("instruction", "output", "history"), ["history"]),
        (rows("text", "summary"), ["summary"]),
        (rows("text", "context", "label", label=CLASSES), ["context"]),
        (rows("prompt", "Completion", "input"), ["input"]),
    ],
)
def test_texts_that_go_with_others_are_not_left_unread(given: datasets.Dataset, missed: list[str]) -> None:
    for settings in ({}, {"task": "classification" if "label" in given.column_names else "causal-lm"}):
        with pytest.raises(DataError, match=f"would be read without .*{missed[0]}.*text_columns"):
            load(given, **settings)


def test_the_users_columns_are_all_that_is_read() -> None:
    given = rows("question", "context", "answer", "label", label=CLASSES)
    named = load(given, text_columns=["context", "question"], completion_column="answer")
    assert (named.text_columns, named.completion_column) == (("context", "question"), "answer")
    assert load(given, text_columns="question", label_column="label").text_columns == ("question",)


@pytest.mark.parametrize("first", [("question", "passage"), ("question", "answer"), ("question", "sentence")])
def test_a_question_is_classified_with_what_answers_it(first: tuple[str, ...]) -> None:
    assert load(rows(*first, "label", label=CLASSES)).text_columns == first


@pytest.mark.parametrize("names", [("prompt", "chosen", "rejected"), ("chosen", "rejected")])
def test_preferences_are_refused(names: tuple[str, ...]) -> None:
    messages = [[{"role": "user", "content": "q"}]] * 24
    for values in ({}, {"chosen": messages, "rejected": messages}):
        with pytest.raises(DataError, match=r"holds preferences \(\['chosen', 'rejected'\]\)"):
            load(rows(*names, **values))
    loaded = load(rows("prompt", "chosen", "rejected"), text_columns="prompt", completion_column="chosen")
    assert loaded.completion_column == "chosen"


@pytest.mark.parametrize(
    "given",
    [
        rows("translation", translation=[{"en": "a", "de": "b"}] * 24),
        rows("en", "de"),
        rows("document", "summary"),
        rows("review", "stars", stars=CLASSES),
        rows("prompt", "completion", "label", label=[True, False] * 12),
    ],
)
def test_other_layouts_are_refused_with_the_columns_found(given: datasets.Dataset) -> None:
    with pytest.raises(DataError) as caught:
        load(given)
    assert str(given.column_names) in str(caught.value)
    assert "text_columns" in str(caught.value)


def test_two_label_columns_are_asked_about() -> None:
    with pytest.raises(DataError, match=r"has the label columns \['label', 'target'\].*label_column"):
        load(rows("text", "label", "target", label=CLASSES, target=CLASSES))


def test_well_known_names_are_found_in_any_letter_case() -> None:
    loaded = load(rows("Text", "LABEL", LABEL=CLASSES))
    assert (loaded.text_columns, loaded.label_column) == (("Text",), "LABEL")
    assert load(rows("Instruction", "Input", "Output")).completion_column == "Output"
    exact = load(rows("Text", "text", "label", label=CLASSES))
    assert exact.text_columns == ("text",)


def test_nothing_is_said_of_columns_that_the_user_named() -> None:
    given = rows("text", "label", label=CLASSES)
    assert any(note.startswith("Read as") for note in load(given).notes)
    named = load(given, text_columns="text", label_column="label")
    assert not any(note.startswith("Read as") for note in named.notes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("text", "label"), r"data\[1\]: beside the text in \['text'\] there is 'label', which may be a label"),
        (("text", "sentiment"), r"data\[1\]: beside the text in \['text'\] there is 'sentiment'"),
        (("text", "context"), r"data\[1\]: \['text'\] would be read without \['context'\]"),
    ],
)
def test_columns_that_only_a_later_client_has_are_not_passed_over(columns: tuple[str, ...], message: str) -> None:
    texts = data([("one",), ("two",), ("three",)], ("text",))
    later = data([("four", "a"), ("five", "b"), ("six", "a")], columns)
    with pytest.raises(DataError, match=message):
        load([texts, later])
    assert load([texts, later], task="causal-lm", text_columns="text").task == "causal-lm"


def test_what_is_not_read_of_a_later_client_is_said() -> None:
    usual = data([("one", 0), ("two", 1), ("three", 0), ("four", 1)])
    more = data([("five", 0, 1), ("six", 1, 0)], ("text", "label", "labels"))
    assert any("(not read: ['labels'])" in note for note in load([usual, more], eval_data=usual).notes)
