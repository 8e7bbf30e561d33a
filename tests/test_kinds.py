"""Kinds of settings: what each takes and keeps, what a text of the command line means, and what is refused."""

import math
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pytest

from declora.errors import ConfigError, ModelError, shown
from declora.fields import LOADED, SHARED, Section, list_fields, read_fields
from declora.kinds import (
    Bytes,
    Choice,
    Given,
    Kind,
    Name,
    Place,
    Real,
    Source,
    Switch,
    Table,
    Text,
    Texts,
    Whole,
    Wholes,
    parse_value,
)

KEPT = [
    (Switch(), np.False_, False),
    (Whole(0), np.uint8(7), 7),
    (Whole(0, 2**64 - 1), np.uint64(2**64 - 1), 2**64 - 1),
    (Wholes(0), np.array([3, 7]), [3, 7]),
    (Wholes(0), range(2), [0, 1]),
    (Bytes(), "2GB", 2 * 10**9),
    (Bytes(), "1.5 kiB", 1536),
    (Bytes(), np.int64(7), 7),
    (Real(), np.float32(0.5), 0.5),
    (Real(), 3, 3),
    (Real(), np.int64(3), 3),
    (Real(), 2**60, float(2**60)),
    (Real(least=0, most=1), 0, 0),
    (Text(), np.str_("a"), "a"),
    (Texts(), ("a", np.str_("b")), ["a", "b"]),
    (Place(), Path("a/b"), "a/b"),
    (Place(), "~/runs", os.path.expanduser("~/runs")),
    (Source(), Path("a/b"), Path("a/b")),
    (Table("T", r=Whole(1)), {"r": np.int64(2), "bias": "none"}, {"r": 2, "bias": "none"}),
]


@pytest.mark.parametrize(("kind", "value", "kept"), KEPT)
def test_values_are_kept_as_the_plain_python_that_they_are(kind, value, kept):
    found = kind.check("x", value)
    assert found == kept
    assert repr(found) == repr(kept)  # np.int64(3) == 3, but shows what it is


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        *((Switch(), text, True) for text in ("true", "True", "YES", "on", "1")),
        *((Switch(), text, False) for text in ("false", "FALSE", "no", "Off", "0")),
        (Whole(0), "1_000", 1000),
        (Real(), "5e-3", 5e-3),
        (Wholes(0), "3", 3),
        (Wholes(0), "3,", [3]),
        (Wholes(0), "3, 7", [3, 7]),
        (Wholes(0), "[3, 7]", [3, 7]),
        (Text(), "true", "true"),
        (Texts(), "a,b", ["a", "b"]),
        (Texts(), '["a,b"]', ["a,b"]),
        (Table("T"), '{r = 4, bias = "none"}', {"r": 4, "bias": "none"}),
    ],
)
def test_texts_of_the_command_line_mean_what_the_kind_says(kind, text, value):
    assert kind.read("x", text) == value


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        *((Switch(), value, "x=.* must be true or false") for value in (1, 0, "maybe", None, "", [])),
        (Switch(), "no", "x='no' must be true or false, without quotes"),
        (Whole(1), 0, "x=0 must be a whole number of at least 1"),
        (Whole(1, 1000), 2000, "x=2000 must be a whole number of at most 1,000"),
        *((Whole(1), value, "whole number") for value in (True, np.True_, 1.0, np.float64(1), "1", 1j, None)),
        (Whole(1), np.array(1), "whole number"),
        (Whole(1), 10**5000, "x=<int> must be a whole number of at most"),
        (Wholes(0), [1, True], r"x\[1\]=True must be a whole number"),
        *((Bytes(), value, "whole number of bytes above 0") for value in (0, "0.1", "2 parsecs", "-1kB", 2.0, True)),
        *((Real(), value, "must be a finite number") for value in (math.nan, math.inf, 10**400, True, "1", 1j)),
        (Real(above=0, most=1), 0, "x=0 must be a finite number above 0 and of at most 1"),
        (Real(least=0, below=1), 1.0, "x=1.0 must be a finite number of at least 0 and below 1"),
        (Text(), " ", "x=' ' is empty"),
        (Text(), "\ud800", "UTF-8"),
        (Texts(), ["a", 3], r"x\[1\]=3 must be a name"),
        (Choice(("adamw", "sgd")), "adam", "Did you mean 'adamw'"),
        (Name(int), 3, "x=3 must be a name, in quotes"),
        (Place(), "a\0b", "can be no path"),
        (Place(), "a" * 5000, "too long for a path"),
        (Place(), 5, "x=5 must be a name or a path"),
        (Given(), "a", "x='a' must be an object"),
        (Given(Text()), 5, "x=5 must be a name, in quotes, or an object"),
        (Source(), ["a", ""], r"x\[1\]='' is empty"),
        (Table("T"), "r8", "x='r8' must be a table of the fields of T"),
        (Table("T", r=Whole(1)), {"r": "4"}, "x.r='4' must be a whole number"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Kind) else shown(value),
)  # fmt: skip
def test_whatever_else_is_refused_by_name_value_and_fix(kind, value, message):
    with pytest.raises(ConfigError, match=message):
        kind.check("x", value)


def test_tables_and_objects_may_have_errors_of_their_own_room():
    with pytest.raises(ModelError, match="x=5 must be a name, in quotes, or an object"):
        Given(Text(), ModelError).check("x", 5)
    with pytest.raises(ModelError, match=r"x\.r=0"):
        Table("T", error=ModelError, r=Whole(1)).check("x", {"r": 0})


def test_objects_stay_the_same_objects_so_that_runs_share_what_is_loaded_of_them():
    rows = [{"text": "a", "label": 0}]
    assert Source().check("data", rows) is rows
    assert Given(Place()).check("model", rows[0]) is rows[0]


def test_a_text_is_a_toml_value_or_itself():
    texts = ("3", "0.5", "true", "none", "ring", "[1, 2]", "1\nb = 2", "[" * 5000, "9" * 5000)
    assert [parse_value(text) for text in texts] == [3, 0.5, True, None, *texts[4:5], [1, 2], *texts[6:]]


class Tiny:
    """A class of fields."""

    switch: Annotated[bool, SHARED] = True
    """Whether,
    and how."""
    _more: ClassVar = Section("More", "What else there is.")
    count: Annotated[int | None, Whole(1), LOADED] = None
    """How many."""
    choice: Literal["a", "b"] | None = None


def test_fields_are_read_off_the_annotations():
    fields = read_fields(Tiny)
    assert list(fields) == ["switch", "count", "choice"]
    assert [field.loaded for field in fields.values()] == [False, True, False]
    assert [field.shared for field in fields.values()] == [True, False, False]
    assert [field.text for field in fields.values()] == ["Whether,\nand how.", "How many.", ""]
    assert [field.section.title for field in fields.values()] == ["Settings", "More", "More"]
    assert [field.parse("none") for field in fields.values()] == ["none", None, None]
    assert [fields["count"].check(value) for value in (None, 3)] == [None, 3]
    assert fields["switch"].parse("no") is False
    with pytest.raises(ConfigError, match="choice='c' is not known"):
        fields["choice"].check("c")
    with pytest.raises(ConfigError, match="switch=None"):
        fields["switch"].check(None)


def test_fields_are_listed_with_their_texts_under_the_headings_of_their_sections():
    assert list_fields(read_fields(Tiny)).splitlines() == [
        "Settings: ",
        "    switch: Whether,",
        "        and how.",
        "",
        "More: What else there is.",
        "    count: How many.",
        "    choice: ",
    ]
