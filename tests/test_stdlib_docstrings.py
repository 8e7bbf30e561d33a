"""The docstrings of the standard library as a text classification task."""

import re
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from declora.data import TextData, load
from declora.data.stdlib_areas import AREA_OF, AREAS
from declora.data.stdlib_docstrings import _source_files, docstring_text, load_stdlib_docstrings, split_of
from declora.errors import DataError


@pytest.fixture(scope="module")
def scanned() -> tuple[TextData, float]:
    """The task, and the seconds of a processor that it took."""
    load_stdlib_docstrings.cache_clear()
    start = time.process_time()
    return load("stdlib-docstrings"), time.process_time() - start


@pytest.fixture
def docstrings(scanned: tuple[TextData, float]) -> TextData:
    return scanned[0]


def test_docstrings_have_eight_classes_of_reasonable_size_and_balance(docstrings: TextData) -> None:
    assert docstrings.label_names == AREAS
    assert len(AREAS) == 8
    for split, least in ((docstrings.train, 120), (docstrings.evaluation, 20)):
        counts = np.bincount(split["label"][:], minlength=8)
        assert counts.min() >= least
        assert counts.max() <= 4 * counts.min()


def test_docstrings_are_unique_clean_texts_in_one_split_only(docstrings: TextData) -> None:
    texts = [*docstrings.train["text"], *docstrings.evaluation["text"]]
    assert len({re.sub(r"\W+", "", text).casefold() for text in texts}) == len(texts)
    assert all(20 <= len(text) <= 400 and text == " ".join(text.split()) and ">>>" not in text[:3] for text in texts)


def test_docstrings_carry_the_area_of_their_module(docstrings: TextData) -> None:
    for split in (docstrings.train, docstrings.evaluation):
        for row in split.select(range(0, split.num_rows, 25)):
            assert AREAS[row["label"]] == AREA_OF[row["module"]]
            assert row["name"].split(".")[0] == row["module"]


def test_about_fifteen_in_a_hundred_docstrings_are_for_validation(docstrings: TextData) -> None:
    share = docstrings.evaluation.num_rows / (docstrings.train.num_rows + docstrings.evaluation.num_rows)
    # 15 % of about 4,000 hashes: standard deviation 0.6 %, so 3 % is five of them.
    assert abs(share - 0.15) < 0.03


def test_the_split_of_an_object_never_changes() -> None:
    named = [("json", "loads"), ("json", "dumps"), ("os.path", ""), ("asyncio.tasks", "gather"), ("re", "sub")]
    assert [split_of(*name) for name in named] == ["train", "train", "train", "validation", "train"]


SOURCE = '''"""{0}: the docstring of the module."""
import sys
raise RuntimeError("a source is read, never executed")
def public():
    """{0}: the docstring of a function."""
    def inner():
        """{0}: a function inside a function."""
def _private():
    """{0}: the docstring of a private function."""
class Public:
    """{0}: the docstring of a class."""
    async def method(self):
        """{0}: the docstring of a method."""
    def _helper(self):
        """{0}: the docstring of a private method."""
class _Private:
    def method(self):
        """{0}: a method of a private class."""
if sys.platform == "win32":
    def conditional():
        """{0}: the docstring of a conditional function."""
else:
    def conditional2():
        """{0}: the docstring of another one."""
def short():
    """Too short."""
def repeated():
    """{0} -- the DOCSTRING of a function!"""
'''


def test_public_objects_alone_are_collected_and_nothing_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("concurrent", "concurrent/inside", "concurrent/test", "typing", "unittest", "zipfile"):
        (tmp_path / folder).mkdir()
    files = ["concurrent/__init__", "concurrent/inside/deep", "concurrent/test/test_it", "typing/__init__", "bdb"]
    files += ["zipfile/__init__", "uuid", "ast", "json", "string", "tkinter"]
    for file in files:
        (tmp_path / f"{file}.py").write_text(SOURCE.format(file), encoding="utf-8")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    # Every object in both splits, so that each of the tiny areas has some of both.
    turns = iter(range(10**6))
    monkeypatch.setattr("declora.data.stdlib_docstrings.split_of", lambda *_: ("train", "validation")[next(turns) % 2])
    load_stdlib_docstrings.cache_clear()
    found = load_stdlib_docstrings()
    load_stdlib_docstrings.cache_clear()
    names = {*found["train"]["name"], *found["validation"]["name"]}
    objects = ("", ".public", ".Public", ".Public.method", ".conditional", ".conditional2")
    modules = ("concurrent", "concurrent.inside.deep", "typing", "bdb", "zipfile", "uuid", "ast", "json", "string")
    assert names == {module + object_ for module in modules for object_ in objects}


def test_docstrings_are_scanned_in_seconds(scanned: tuple[TextData, float]) -> None:
    assert scanned[1] < 15  # 2 s alone on one core; the rest is for a slow machine


def test_docstrings_come_in_the_same_order_each_time(docstrings: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files do, and of every fifth file the rows do."""
    files = list(_source_files(Path(sysconfig.get_path("stdlib"))))
    assert files == list(_source_files(Path(sysconfig.get_path("stdlib"))))
    monkeypatch.setattr("declora.data.stdlib_docstrings._source_files", lambda root: iter(files[::5]))
    load_stdlib_docstrings.cache_clear()
    again = load_stdlib_docstrings()["train"]["name"][:]
    load_stdlib_docstrings.cache_clear()
    # What an earlier file says too is left out of the whole alone.
    both = set(again) & set(docstrings.train["name"])
    assert len(both) > 400
    assert [name for name in again if name in both] == [name for name in docstrings.train["name"] if name in both]


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("One line.", "One line."),
        ("First\n    line.\n\n    Second.\n    ", "First line. Second."),
        ("Prose here.\n\n>>> f(1)\n2\n", "Prose here."),
        ("Prose here.\n>>> f(1)\n2\n\nMore.", "Prose here."),
        ("Title\n=====\n\nText.", "Title"),
        ("word " * 100, ("word " * 80).strip()),
        ("a" * 300 + "\n\n" + "b" * 100, "a" * 300),
        ("x" * 500, ""),
    ],
)
def test_the_text_of_a_docstring_is_its_first_prose(docstring: str, text: str) -> None:
    assert docstring_text(docstring) == text


def test_a_python_without_sources_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    load_stdlib_docstrings.cache_clear()
    with pytest.raises(DataError, match=r"stdlib-docstrings.*no docstrings for concurrency.*pass a file"):
        load("stdlib-docstrings")
