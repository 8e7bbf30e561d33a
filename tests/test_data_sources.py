"""Sources: files, folders, mappings and the hub, and what is said where one is damaged or missing."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: it reads the variable once

import datasets

from data_rows import ROWS, data, pairs, rows_to
from declora.data import load
from declora.errors import DataError

# --- files


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "a.json.gz"]
)
def test_every_file_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = rows_to(tmp_path / name, ROWS)
    loaded = load(path, eval_data=str(path))
    assert pairs(loaded.train) == pairs(loaded.evaluation) == ROWS
    assert (loaded.task, loaded.text_columns, loaded.label_column) == ("classification", ("text",), "label")
    assert loaded.label_names == ("0", "1")
    assert loaded.train.features["label"] == datasets.ClassLabel(names=["0", "1"])


def test_a_quote_in_a_tsv_is_an_ordinary_character(tmp_path: Path) -> None:
    rows = [('" unclosed', 0), ('say ""hi""', 1), ("trailing ", 0)]
    path = rows_to(tmp_path / "a.tsv", rows)
    assert pairs(load(path, eval_data=path).train) == rows


def test_a_quoted_csv_field_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one, two",0\n"say ""hi""\nand go",1\n', encoding="utf-8")
    assert pairs(load(path, eval_data=path).train) == [("one, two", 0), ('say "hi"\nand go', 1)]


def test_csv_texts_that_look_like_numbers_or_nulls_stay_texts(tmp_path: Path) -> None:
    rows = [("007", 0), ("NA", 1), ("null", 0), ("1e5", 1)]
    path = rows_to(tmp_path / "a.csv", rows)
    assert pairs(load(path, eval_data=path).train) == rows


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufefftext\tlabel\r\ngood\t1\r\nbad\t0\r\n".encode())
    assert pairs(load(path, eval_data=path).train) == [("good", 1), ("bad", 0)]


def test_a_rewritten_file_of_the_same_time_and_size_is_read_anew(tmp_path: Path) -> None:
    path = rows_to(tmp_path / "a.csv", ROWS)
    before = path.stat()
    load(path, eval_data=path)
    swapped = [(text, 1 - label) for text, label in ROWS]
    rows_to(path, swapped)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert pairs(load(path, eval_data=path).train) == swapped


def test_loading_a_file_leaves_nothing_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    load(rows_to(tmp_path / "a.csv", ROWS), eval_fraction=0.5)
    assert not (tmp_path / "cache").exists()


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    many = [(f"text number {i}", i % 2) for i in range(200)]
    cases = {}
    for name, reason in [("cut.csv.gz", "truncated"), ("cut.jsonl.gz", "truncated"), ("cut.parquet", "parquet")]:
        cut(rows_to(folder / name, many), 0.6)
        cases[name] = (folder / name, reason)
    flipped = bytearray(rows_to(folder / "flipped.csv.gz", many).read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    contents = {
        "flipped.csv.gz": (bytes(flipped), "gzip|UTF-8|fields"),
        "not_gzip.csv.gz": (b"text,label\na,1\n", "not intact gzip"),
        "empty.csv": (b"", "empty"),
        "blank.csv": (b"\n", "header"),
        "header_only.tsv": (b"text\tlabel\n", r"no rows.*\['text', 'label'\]"),
        "cut.tsv": (b"text\tlabel\ngood\t1\nba", "line 3: 1 fields.*2"),
        "unquoted.csv": (b"text,label\na,1\none, two,0\n", "line 3: 3 fields"),
        "quote.csv": (b'text,label\na,1\n"never closed,0\n', "line 3.*quotes"),
        "twice.csv": (b"text,text\na,b\n", r"\['text'\] more than once"),
        "latin.csv": ("text,label\ncaf\u00e9,1\n".encode("latin-1"), "UTF-8"),
        "bad.jsonl": (b'{"text": "a", "label": 1}\n{"text": "b", "la', "line 2 is not JSON"),
        "number.jsonl": (b"3\n", "line 1 is 3, not an object"),
        "cut.json": (b'[{"text": "a", "label": 1}, {"text"', "truncated"),
        "mixed.jsonl": (b'{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n', "'label' mixes types"),
        "data.xlsx": (b"PK", "no known format.*csv"),
        "data.parquet.gz": (b"PK", "no known format"),
    }
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(content)
        cases[name] = (folder / name, reason)
    return cases | {"missing.csv": (folder / "missing.csv", "does not exist")}


def test_a_damaged_or_missing_file_is_an_error_that_names_it_and_the_reason(tmp_path: Path) -> None:
    cases = broken_files(tmp_path)
    assert len(cases) == 20
    for name, (path, reason) in cases.items():
        with pytest.raises(DataError, match=reason) as caught:
            load(path)
        assert name in str(caught.value)


def test_a_missing_file_given_as_a_string_is_not_taken_for_a_hub_name() -> None:
    with pytest.raises(DataError, match=r"File nowhere/train\.tsv\.gz does not exist"):
        load("nowhere/train.tsv.gz")


# --- folders, mappings, the hub


def test_a_folder_gives_its_validation_file_before_its_test_file(tmp_path: Path) -> None:
    rows_to(tmp_path / "train.csv", ROWS)
    rows_to(tmp_path / "test.csv", ROWS[:2])
    assert pairs(load(tmp_path).evaluation) == ROWS[:2]
    rows_to(tmp_path / "dev.tsv.gz", ROWS[2:4])
    rows_to(tmp_path / "train_extra.csv", ROWS[:1])  # no split of that name: left alone
    loaded = load(str(tmp_path))
    assert (pairs(loaded.train), pairs(loaded.evaluation)) == (ROWS, ROWS[2:4])
    assert loaded.name == tmp_path.name


def test_numbered_files_of_one_split_are_joined_in_order(tmp_path: Path) -> None:
    rows_to(tmp_path / "train-00001-of-00002.parquet", ROWS[4:])
    rows_to(tmp_path / "train-00000-of-00002.parquet", ROWS[:4])
    rows_to(tmp_path / "validation-00000-of-00001.parquet", ROWS[:2])
    assert pairs(load(tmp_path).train) == ROWS


def test_a_folder_without_split_files_or_with_two_for_one_split_is_an_error(tmp_path: Path) -> None:
    rows_to(tmp_path / "reviews.csv", ROWS)
    with pytest.raises(DataError, match=r"train\.csv.*Found: reviews\.csv"):
        load(tmp_path)
    rows_to(tmp_path / "train.csv", ROWS)
    rows_to(tmp_path / "train.tsv", ROWS)
    with pytest.raises(DataError, match=r"several files for train: train\.csv, train\.tsv"):
        load(tmp_path)


def test_a_folder_written_by_save_to_disk_is_read_back(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data(ROWS), "test": data(ROWS[:2])}).save_to_disk(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert (pairs(loaded.train), pairs(loaded.evaluation)) == (ROWS, ROWS[:2])


def test_a_dataset_dict_or_a_mapping_of_paths_gives_its_splits(tmp_path: Path) -> None:
    mapping = {"train": rows_to(tmp_path / "x.csv", ROWS), "validation": rows_to(tmp_path / "y.csv", ROWS[:2])}
    splits = datasets.DatasetDict(
        {"train": data(ROWS), "validation_matched": data(ROWS[:2]), "test": data([("a", -1)])}
    )
    for given in (mapping, splits):
        loaded = load(given)
        assert (pairs(loaded.train), pairs(loaded.evaluation)) == (ROWS, ROWS[:2])


def test_splits_without_train_are_an_error() -> None:
    with pytest.raises(DataError, match=r"\['dev', 'test'\] but no 'train'"):
        load({"dev": data(ROWS), "test": data(ROWS)})


def test_eval_data_replaces_the_own_split_and_gives_its_evaluation_split() -> None:
    own = datasets.DatasetDict({"train": data(ROWS), "validation": data(ROWS[:2])})
    other = datasets.DatasetDict({"train": data(ROWS), "test": data(ROWS[2:6])})
    assert pairs(load(own, eval_data=data(ROWS[1:5])).evaluation) == ROWS[1:5]
    assert pairs(load(own, eval_data=other).evaluation) == ROWS[2:6]


def test_the_hub_out_of_reach_is_an_error_that_says_what_works_offline() -> None:
    with pytest.raises(DataError, match=r"data='glue:sst2'.*cannot be reached.*path of a file.*stdlib-docstrings"):
        load("glue:sst2")
    with pytest.raises(DataError, match=r"Did you mean 'stdlib-docstrings'"):
        load("stdlib_docstring")


def test_a_hub_name_is_split_into_data_set_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(repository: str, config: str | None) -> datasets.DatasetDict:
        asked.append((repository, config))
        if repository == "broken":
            raise ValueError("Config name is missing")
        return datasets.DatasetDict({"train": data(ROWS), "validation": data(ROWS[:2])})

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert load("nyu-mll/glue:sst2").name == "nyu-mll/glue:sst2"
    assert pairs(load("imdb").evaluation) == ROWS[:2]
    assert asked == [("nyu-mll/glue", "sst2"), ("imdb", None)]
    with pytest.raises(DataError, match=r"ValueError: Config name is missing.*'name:config'"):
        load("broken")


@pytest.mark.parametrize("wrong", [3, None, data(ROWS).to_iterable_dataset(), b"train.csv"])
def test_what_is_no_data_at_all_is_an_error_that_names_its_type(wrong: object) -> None:
    with pytest.raises(DataError, match=f"data is a {type(wrong).__name__}"):
        load(wrong)
