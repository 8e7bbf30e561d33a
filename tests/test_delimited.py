"""csv, tsv and txt: which separator is read, what is said of it, and what is refused."""

import csv
import gzip
from pathlib import Path

import pytest

from data_rows import pairs
from declora.data import load
from declora.errors import DataError

ROWS = [("one, two", 0), ("three", 1), ("four", 0), ("five", 1)]


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize(("separator", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_the_separator_of_the_header_is_that_of_the_rows_and_is_said(
    tmp_path: Path, name: str, end: str, start: str, separator: str, word: str
) -> None:
    lines = [separator.join(map(str, row)) for row in [("text", "label"), *ROWS]]
    path = write(tmp_path / name, start + end.join(lines) + end)
    loaded = load(path, eval_data=path)
    assert pairs(loaded.train) == ROWS
    assert any(f"read with a {word} between columns" in note for note in loaded.notes)


def test_a_comma_is_no_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"one, two",0\nthree;3,1\n')
    loaded = load(path, eval_data=path)
    assert pairs(loaded.train) == [("one, two", 0), ("three;3", 1)]
    assert not any("between columns" in note for note in loaded.notes)


def test_fields_are_quoted_with_every_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '"text";"label"\n"one; ""two""\nand three";0\nfour;1\n')
    assert pairs(load(path, eval_data=path).train) == [('one; "two"\nand three', 0), ("four", 1)]


def test_a_space_after_each_comma_of_the_header_belongs_to_the_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text, label\n"one, two", 0\n three, 1\n')
    loaded = load(path, eval_data=path)
    assert pairs(loaded.train) == [("one, two", 0), ("three", 1)]
    assert any("a comma and a space between columns" in note for note in loaded.notes)


def test_names_of_columns_have_no_space_around_them_but_texts_keep_theirs(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        path = write(tmp_path / name, f"text {separator}label{separator} id\n  one {separator}0{separator}7\n")
        loaded = load(path, eval_data=path, task="causal-lm")
        assert loaded.train.column_names == ["text", "label", "id"]
        assert loaded.train["text"][:] == ["  one "]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text;label,score\na;1,2\n", "line 1: the header can be read with a comma or a semicolon"),
        ("a.csv", "a|b\tc\n1|2\t3\n", "line 1: the header can be read with a tab or a bar"),
        ("a.csv", "text;label\none;1\ntwo;1;2\n", "line 3: 3 fields, but the header names 2"),
        ("a.csv", "text;label\none;1\nthree\n", "line 3: 1 fields, but the header names 2"),
        ("a.tsv", "text,label\none,1\n", r"line 1: there is no tab between columns, but a comma .*Name the file \.csv"),
        ("a.tsv", "text;label\none;1\n", "there is no tab between columns, but a semicolon"),
        ("a.csv", "te\0xt,label\none,1\n", r"a column of the name 'te\\x00xt'"),
        ("a.csv", "text,text \none,1\n", r"\['text'\] more than once"),
        ("a.csv", " , \none,1\n", "no header line"),
        ("a.txt", "\n \n", "no rows"),
    ],
)
def test_what_can_be_read_in_two_ways_or_in_none_is_an_error(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / name, text))


def test_a_field_may_have_any_length(tmp_path: Path) -> None:
    before, text = csv.field_size_limit(), "w " * 200_000
    path = write(tmp_path / "a.csv", f"text,label\n{text},0\nshort,1\n")
    assert load(path, eval_data=path).train["text"][0] == text
    assert csv.field_size_limit() == before


def test_an_index_that_pandas_wrote_is_not_taken_for_a_column_of_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ",review,label\n0,good,1\n1,bad,0\n")
    assert load(path, eval_data=path).text_columns == ("review",)


def test_a_text_file_is_one_text_a_line_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeffone line\r\n\r\n  two, and\tmore  \nthree")
    loaded = load(path, eval_data=path)
    assert (loaded.task, loaded.train["text"][:]) == ("causal-lm", ["one line", "  two, and\tmore  ", "three"])
    assert any("one text a line (blank lines left out: 1)" in note for note in loaded.notes)


@pytest.mark.parametrize("line", ["sep=;", '"sep=,"', "SEP=\t"])
def test_the_line_that_tells_a_spreadsheet_the_separator_is_no_header(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.csv", f"{line}\r\ntext;label\r\none;0\r\ntwo;1\r\n")
    with pytest.raises(DataError, match="line 1 tells a spreadsheet the separator"):
        load(path, eval_data=path)
