"""Damaged and odd files: each is read, or a DataError names it, and where it can the line."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_rows import ROWS, rows_to
from declora.data import load
from declora.errors import DataError

GOOD = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)

ODD = {
    "half an emoji": ('{"text": "w1 \\ud83d", "label": 1}\n', None),
    "an unsigned id": ('{"text": "w1", "label": 1, "id": 18446744073709551615}\n', None),
    "a label of 30 digits": (
        '{"text": "w1", "label": ' + "9" * 30 + "}\n",
        r"line 1: column 'label' holds 9+.*64 bits",
    ),
    "an unused number of 30 digits": ('{"text": "w1", "label": 1, "x": [' + "9" * 30 + "]}\n", "line 1: column 'x'"),
    "a number of 5000 digits": ('{"text": "w1", "label": ' + "9" * 5000 + "}\n", "line 1 is not JSON.*digits"),
    "very deep": ('{"text": ' + "[" * 100_000 + "\n", "line 1 is not JSON.*nested too deeply"),
    "a name twice": ('{"text": "a", "text": "b", "label": 1}\n', "line 1 is not JSON .*'text' is twice"),
    "half an emoji as a name": ('{"\\udc00": "a", "label": 1}\n', "a column of the name"),
    "a NUL in a name": ('{"te\\u0000xt": "a", "label": 1}\n', r"a column of the name 'te\\x00xt'"),
    "infinite": ('{"text": "w1", "label": 1e999}\n', "'label' of row 0 .* is inf, not a class"),
    "a list": ('["w1", 1]\n', "is not JSON|not an object"),
    "a text of the other type": ('{"text": 5, "label": 1}\n', "column 'text' mixes types"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_json_can_say_and_a_table_cannot_hold_is_read_or_refused_by_name(tmp_path: Path, name: str) -> None:
    (line, message), path = ODD[name], tmp_path / "odd.jsonl"
    path.write_text(line + GOOD)
    if message is None:
        assert load(path).train.num_rows + load(path).evaluation.num_rows == 9
        return
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "odd.jsonl" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_half_a_surrogate_pair_is_read_as_the_sign_for_no_character_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "cut \\ud83d", "label": 1}\n{"text": "\\ud83d\\ude00 whole", "label": 0}\n')
    loaded = load(path, eval_data=path)
    assert loaded.train["text"][:] == ["cut \ufffd", "\U0001f600 whole"]
    assert any("1 values of column 'text' hold half a surrogate pair" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text,label\nfine,1\ncaf\u00e9,0\n"),
        ("a.tsv.gz", "text\tlabel\nfine\t1\ncaf\u00e9\t0\n"),
        ("a.jsonl", '\n{"text": "fine", "label": 1}\n{"text": "caf\u00e9", "label": 0}\n'),
        ("a.txt.gz", "one\n\ncaf\u00e9"),
    ],
)
def test_the_line_that_is_not_utf8_is_named(tmp_path: Path, name: str, text: str) -> None:
    content = text.encode("latin-1")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=rf"{name}, line 3 is not UTF-8 text"):
        load(tmp_path / name)


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def test_parquet_files_that_are_well_formed_but_damaged_are_errors_that_name_them(tmp_path: Path) -> None:
    labels = pa.array([0, 1] * 4)
    not_utf8 = pa.array([b"w1 \xff\xfe"] * 8, pa.binary()).cast(pa.string(), safe=False)
    good = pa.table({"text": ["w"] * 8, "label": labels})
    cases = {
        "twice": (pa.table([good["text"], labels, labels], names=["text", "label", "label"]), r"\['label'\] more than"),
        "bytes": (pa.table({"text": not_utf8, "label": labels}), "is damaged.*UTF8"),
        "metadata": (good.replace_schema_metadata({"huggingface": "{broken"}), "is damaged"),
        "features": (good.replace_schema_metadata({"huggingface": '{"info": {"features": {"x": 3}}}'}), "is damaged"),
        "empty": (good.slice(0, 0), r"has no rows, only columns \['text', 'label'\]"),
    }
    for name, (table, message) in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            load(parquet(tmp_path / f"{name}.parquet", table))
        assert f"{name}.parquet" in str(caught.value)


def test_categories_and_unsigned_numbers_of_parquet_are_read(tmp_path: Path) -> None:
    table = pa.table({
        "text": pa.array([text for text, _ in ROWS], pa.large_string()),
        "label": pa.array(["ny"[label] for _, label in ROWS]).dictionary_encode(),
        "hash": pa.array([2**64 - 1 - i for i in range(8)], pa.uint64()),
    })  # fmt: skip
    loaded = load(parquet(tmp_path / "a.parquet", table))
    assert loaded.label_names == ("n", "y")


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yields damaged copies: bytes changed, cut off, put in, taken out, or written twice."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            at, kind = int(rng.integers(0, len(damaged) + 1)), int(rng.integers(0, 5))
            if kind == 0:
                damaged[at : at + 1] = rng.bytes(1)
            elif kind == 1:
                del damaged[at:]
            elif kind == 2:
                damaged[at:at] = rng.bytes(int(rng.integers(1, 9)))
            elif kind == 3:
                del damaged[at : at + int(rng.integers(1, 20))]
            else:
                damaged[at:at] = damaged[at // 2 : at]
        yield bytes(damaged)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_a_damaged_file_is_read_or_is_a_data_error_that_names_it(tmp_path: Path, name: str) -> None:
    content = rows_to(tmp_path / name, [(f"text {i} \u00e9", i % 2) for i in range(30)]).read_bytes()
    said = []
    for i, damaged in enumerate(mutants(content, 40, seed=7)):
        path = tmp_path / f"{i}-{name}"
        path.write_bytes(damaged)
        try:
            load(path)
        except DataError as error:
            said.append(str(error))
    assert len(said) > 10  # else the damage would not be any
    assert all(name in message and len(message) < 1000 for message in said)


# --- what is at a path


def test_links_folders_and_devices_in_place_of_a_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "train.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"train\.csv is a link to .*gone\.csv, which does not exist"):
        load(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"train\.csv is a link to .*gone\.csv"):
        load(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"has no file named by its split.*Found: nothing"):
        load(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"folder\.csv is a folder or device"):
        load({"train": tmp_path / "folder.csv"})
    with pytest.raises(DataError, match="is a folder or device"):
        load(Path(os.devnull))


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(rows_to(tmp_path / "b.csv", ROWS))
    assert load(tmp_path / "a.csv").label_names == ("0", "1")
