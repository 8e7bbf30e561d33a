"""Rounds as lines of JSON: strict, whole or not there, and read back while a run goes on."""

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from declora.errors import RunFolderError
from declora.report import read_metrics
from declora.report.json_lines import append, line_of, plain
from report_rows import NAN, make_history

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_plain_always_gives_strict_json_and_changes_nothing_finite(value):
    text = json.dumps(plain(value), allow_nan=False)
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    assert json.loads(text) == finite


def test_a_line_is_strict_json_in_plain_types(tmp_path):
    value = {"nan": NAN, 2: (np.float32(0.5), np.int64(3), np.array([1.0, np.inf])), "path": tmp_path, "ok": True}

    def refuse(constant):
        raise AssertionError(constant)

    line = line_of(value)
    assert line.endswith(b"\n")
    expected = {"nan": None, "2": [0.5, 3, [1.0, None]], "path": str(tmp_path), "ok": True}
    assert json.loads(line, parse_constant=refuse) == expected


def test_half_of_a_surrogate_pair_survives_a_line():
    assert json.loads(line_of({"class": "\ud83d"})) == {"class": "\ud83d"}


def test_lines_read_back_as_the_history(tmp_path):
    history, size = make_history(), 0
    for record in history.to_dict("records"):
        append(tmp_path / "metrics.jsonl", line_of(record), at=size)
        size = (tmp_path / "metrics.jsonl").stat().st_size
    pd.testing.assert_frame_equal(read_metrics(tmp_path), history, check_dtype=False)


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_part_of_it(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"round": 1}\n')
    calls, write = [], os.write

    def full(file, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(data[:4]))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append(path, b'{"round": 2}\n', at=13)
    assert len(calls) == 2
    assert path.read_bytes() == b'{"round": 1}\n'


def test_a_file_of_another_size_is_not_appended_to(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"{}\n{}\n")
    with pytest.raises(OSError, match="6 bytes instead of the 3"):
        append(path, b"{}\n", at=3)
    assert path.read_bytes() == b"{}\n{}\n"


def test_reading_leaves_out_a_last_line_that_is_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}\n{"rou')
    assert list(read_metrics(path)["round"]) == [1, 2]
    path.write_text('{"round": 1}\n{"round": 2}')
    assert list(read_metrics(path)["round"]) == [1, 2]


def test_reading_names_a_broken_line_and_a_missing_or_foreign_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"rou\n{"round": 2}\n')
    with pytest.raises(RunFolderError, match="line 1 is not JSON"):
        read_metrics(tmp_path)
    with pytest.raises(RunFolderError, match=r"path='.*none' cannot be read: no such file.*Name the folder"):
        read_metrics(tmp_path / "none")
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_metrics(tmp_path)
