"""Labels: which spellings are one class, which are two, and which the user is asked about."""

from typing import Any

import datasets
import pytest

from data_rows import ROWS, data
from declora.data import TextData, load
from declora.errors import DataError


def labelled(labels: list[Any]) -> datasets.Dataset:
    return data([(f"text {i}", label) for i, label in enumerate(labels)])


def read(*parts: list[Any]) -> TextData:
    """Loads the labels of one data set, or of one for each client, and evaluates on the first."""
    given = [labelled(part) for part in parts]
    return load(given if len(given) > 1 else given[0], eval_data=given[0])


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        (["yes", "no", "yes ", " no"], ("no", "yes"), [1, 0, 1, 0]),
        (["yes", "no", "yes\t", "\u00a0no\n"], ("no", "yes"), [1, 0, 1, 0]),
        (["very good", "bad", "very  good"], ("bad", "very good"), [1, 0, 1]),
        (["caf\u00e9", "bar", "cafe\u0301"], ("bar", "caf\u00e9"), [1, 0, 1]),
        (["1", "0", "1.0", "0."], ("0", "1"), [1, 0, 1, 0]),
        (["+1", "0", "1", "00"], ("0", "1"), [1, 0, 1, 0]),
        (["2", "10", "2.0"], ("2", "10"), [0, 1, 0]),
        (["1 ", "0", "1.0"], ("0", "1"), [1, 0, 1]),
    ],
)
def test_spellings_that_differ_in_nothing_seen_are_one_class_and_said(
    labels: list[str], classes: tuple[str, ...], indices: list[int]
) -> None:
    loaded = read(labels)
    assert (loaded.label_names, loaded.train["label"][:]) == (classes, indices)
    assert any("white space" in note or "write one number" in note for note in loaded.notes)


@pytest.mark.parametrize("labels", [["01", "02"], ["1.0", "2.0"], ["a-b", "a b"], ["1", "one"], ["3d", "2d", "1"]])
def test_spellings_that_are_no_others_stay_as_they_are(labels: list[str]) -> None:
    loaded = read(labels)
    assert loaded.label_names == tuple(sorted(labels))
    assert not any("are one" in note for note in loaded.notes)


@pytest.mark.parametrize("labels", [["Yes", "no", "yes"], ["TRUE", "True", "False"], ["YES ", "no", "yes"]])
def test_labels_that_differ_in_letter_case_are_an_error(labels: list[str]) -> None:
    with pytest.raises(DataError, match=r"The labels \['[YT].*differ in letter case only"):
        read(labels)
    with pytest.raises(DataError, match="differ in letter case only"):
        read(labels[:2], labels[1:])
    with pytest.raises(DataError, match="differ in letter case only"):
        load(labelled(labels[1:]), eval_data=labelled(labels[:2]))


def test_declared_classes_may_differ_in_letter_case() -> None:
    kind = datasets.ClassLabel(names=["c", "C"])
    given = labelled([0, 1, 0]).cast_column("label", kind)
    assert load(given, eval_data=given).label_names == ("c", "C")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0, 1], ["no", "yes"]), r"labels of data\[0\] are numbers \(\[0, 1\]\), but those of data\[1\] are names"),
        ((["no", "yes"], ["no", "yes"], ["0", "1"]), r"labels of data\[2\] are numbers"),
        (([True, False], ["True", "False"]), r"labels of data\[0\] are numbers"),
        (([0, 1], [1, 2]), r"labels of data\[0\] seem to be counted from 0 .*data\[1\] from 1"),
        (([1, 2, 3], [0, 1, 2], [1, 2, 3]), r"labels of data\[1\] seem to be counted from 0 .*data\[\d\] from 1"),
        (([0, 1], [1], [1, 2]), "seem to be counted from 0"),
        ((["0", "1"], ["1.0", "2.0"]), "seem to be counted from 0"),
    ],
)
def test_clients_that_write_their_labels_in_two_ways_are_an_error(parts: tuple[list[Any], ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*parts)


@pytest.mark.parametrize(
    ("parts", "classes"),
    [
        (([0], [1]), ("0", "1")),
        (([0, 1], [2, 3]), ("0", "1", "2", "3")),
        (([0, 1], [1, 2], [0, 2]), ("0", "1", "2")),
        (([1, 2], [1, 2]), ("1", "2")),
        (([0, 1], [0.0, 1.0]), ("0", "1")),
        (([0, 1], [True, False]), ("0", "1")),
        ((["a", "1"], ["b", "1"]), ("1", "a", "b")),
    ],
)
def test_clients_may_lack_classes_that_others_have(parts: tuple[list[Any], ...], classes: tuple[str, ...]) -> None:
    assert read(*parts).label_names == classes


def test_other_clients_may_write_the_classes_that_one_declares_or_count_them() -> None:
    named = labelled([0, 1]).cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    for other in (["yes", "no"], ["yes ", "no"], [1, 0], ["1.0", "0"], [1.0, 0.0]):
        loaded = load([named, labelled(other)], eval_data=named)
        assert loaded.train["label"][:] == [0, 1, 1, 0]
        assert any("count the classes ['no', 'yes'] from 0" in note for note in loaded.notes) == (
            str(other[0]).strip() != "yes"
        )
    with pytest.raises(DataError, match="label 2 of row 1 is beyond the 2 classes"):
        load([named, labelled([1, 2])], eval_data=named)
    with pytest.raises(DataError, match="has the label 'Yes', which is none of the classes"):
        load([named, labelled(["Yes", "no"])], eval_data=named)


@pytest.mark.parametrize("labels", [["0.5", "1"], ["0.1", "0.2", "3"], ["1.5e3", "0.5"], [".5", "1"]])
def test_fractions_written_as_texts_are_no_classes(labels: list[str]) -> None:
    with pytest.raises(DataError, match=r"are numbers, but .* is no whole one"):
        read(labels)


def test_numbers_in_names_are_classes() -> None:
    assert read(["v0.5", "v1"]).label_names == ("v0.5", "v1")


def test_a_column_of_texts_that_do_not_repeat_is_not_taken_for_classes() -> None:
    answers = data([(f"question {i}", f"answer {i}") for i in range(60)], ("text", "target"))
    with pytest.raises(DataError, match=r"'target' holds 60 different labels in 60 rows.*completion_column='target'"):
        load(answers)
    assert len(load(answers, label_column="target", eval_data=answers).label_names) == 60
    assert load(answers, completion_column="target", text_columns="text").task == "causal-lm"


def test_negative_numbers_are_classes_by_value_but_not_the_mark_of_hidden_labels() -> None:
    assert read([-3, 2, 0]).label_names == ("-3", "0", "2")
    with pytest.raises(DataError, match="is -1, the mark of a hidden label"):
        read([-1, 1, 0])
    for hidden in ("-1", "-1.0", " -1 ", -1.0):
        with pytest.raises(DataError, match="is -1, the mark of a hidden label"):
            read([hidden, hidden])


def test_long_numbers_and_names_are_names_and_shown_cut() -> None:
    long = [digit * 5000 for digit in "12"]
    loaded = read(long)
    assert loaded.label_names == tuple(long)
    assert max(map(len, loaded.notes)) < 400
    with pytest.raises(DataError) as caught:
        load(labelled(long), eval_data=labelled(["3" * 100_000, "1"]))
    assert len(str(caught.value)) < 500


def test_what_was_guessed_of_the_labels_is_said() -> None:
    assert "Classes found in column 'label': ['0', '1']." in load(data(ROWS)).notes


def test_whole_numbers_are_classes_in_the_order_of_their_values_however_they_are_written() -> None:
    assert read(["10.0", "2.0", "0.0"]).label_names == ("0.0", "2.0", "10.0")
    assert read(["10", "9", "b"]).label_names == ("10", "9", "b")


@pytest.mark.parametrize(
    "labels",
    [["good", "bad", "nan"], ["1.0", "0.0", "NaN"], ["1", "0", "<NA>"], ["1", "0", "null"], ["1", "0", "None"]],
)
def test_what_programs_write_where_there_is_no_label_is_no_class(labels: list[str]) -> None:
    with pytest.raises(DataError, match=rf"'{labels[2]}' in column 'label' is what programs write where there is none"):
        read(labels)


@pytest.mark.parametrize("labels", [["support", "deny", "none"], ["na", "yes", "no"], ["null", "none"]])
def test_a_word_for_nothing_among_names_is_a_class(labels: list[str]) -> None:
    assert read(labels).label_names == tuple(sorted(labels))


def declared(labels: list[int], names: list[str]) -> datasets.Dataset:
    return labelled(labels).cast_column("label", datasets.ClassLabel(names=names))


def test_numbers_beside_classes_that_have_numbers_as_names_are_all_names_or_all_count() -> None:
    train = declared([0, 1], ["1", "2"])
    assert load(train, eval_data=labelled([1, 2, 1])).evaluation["label"][:] == [0, 1, 0]
    assert load(train, eval_data=labelled([1, 0, 1])).evaluation["label"][:] == [1, 0, 1]
    with pytest.raises(DataError, match=r"eval_data: the labels \['1'\] may be names .* or count them from 0"):
        load(train, eval_data=labelled([1, 1]))
    turned = declared([0, 1], ["1", "0"])
    assert load(turned, eval_data=turned).train["label"][:] == [0, 1]
    with pytest.raises(DataError, match="may be names of the classes"):
        load(turned, eval_data=labelled([1, 0]))
