"""Folders as the hub lays them out: numbered files, a folder `data`, other files beside, and missing pieces."""

from pathlib import Path

import datasets
import pytest

from data_rows import ROWS, data, pairs, rows_to
from declora.data import load
from declora.errors import DataError


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as the hub stores it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    for number, rows in enumerate((ROWS[:3], ROWS[3:6], ROWS[6:])):
        rows_to(tmp_path / "data" / f"train-0000{number}-of-00003.parquet", rows)
    rows_to(tmp_path / "data" / "validation-00000-of-00001.parquet", ROWS[:2])
    return tmp_path


def test_the_folder_data_of_a_hub_data_set_is_found(hub: Path) -> None:
    for folder in (hub, hub / "data"):
        loaded = load(folder)
        assert (pairs(loaded.train), pairs(loaded.evaluation)) == (ROWS, ROWS[:2])
    assert any("are the split 'validation' of" in note for note in load(hub).notes)


def test_files_of_older_data_sets_have_a_digest_after_their_number(tmp_path: Path) -> None:
    rows_to(tmp_path / "train-00000-of-00002-0123456789abcdef.parquet", ROWS[:4])
    rows_to(tmp_path / "train-00001-of-00002-fedcba9876543210.parquet", ROWS[4:])
    assert pairs(load(tmp_path, eval_data=data(ROWS)).train) == ROWS


def test_files_are_joined_by_number_not_by_letters(tmp_path: Path) -> None:
    for number in range(11):
        rows_to(tmp_path / f"train-{number}-of-11.csv", [(f"text {number}", number % 2)])
    assert load(tmp_path, eval_data=data(ROWS)).train["text"][:] == [f"text {number}" for number in range(11)]


def test_a_missing_piece_of_a_numbered_set_is_an_error(hub: Path) -> None:
    (hub / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"has 2 of the 3 files of train.*train-00000-of-00003\.parquet"):
        load(hub)


def test_pieces_of_two_numbered_sets_are_an_error(hub: Path) -> None:
    rows_to(hub / "data" / "train-00000-of-00001.parquet", ROWS)
    with pytest.raises(DataError, match=r"has 4 of the . files of train"):
        load(hub)


def test_pieces_of_different_columns_or_formats_are_an_error(hub: Path) -> None:
    rows_to(hub / "data" / "train-00001-of-00003.parquet", [("x", "y")], ("text", "label"))
    with pytest.raises(DataError, match="the files of train have different columns or types"):
        load(hub)
    (hub / "data" / "train-00001-of-00003.parquet").unlink()
    rows_to(hub / "data" / "train-00001-of-00003.csv", ROWS)
    with pytest.raises(DataError, match="several files for train"):
        load(hub)


def test_files_of_splits_in_two_places_are_an_error(hub: Path) -> None:
    rows_to(hub / "train.csv", ROWS)
    with pytest.raises(DataError, match="has files named by split, and so has its folder 'data'"):
        load(hub)


def test_a_folder_with_nothing_to_read_is_an_error_that_shows_a_few_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file named by its split.*Found: nothing"):
        load(tmp_path)
    for i in range(300):
        (tmp_path / f"{i:03}{'x' * 200}.md").touch()
    with pytest.raises(DataError, match="no file named by its split") as caught:
        load(tmp_path)
    assert len(str(caught.value)) < 1200


def test_text_files_named_by_split_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "test.txt").write_text("four\n")
    loaded = load(tmp_path)
    assert (loaded.train["text"][:], loaded.evaluation["text"][:]) == (["one", "two", "three"], ["four"])


def test_one_split_alone_is_read_whatever_it_is_called_and_said(tmp_path: Path) -> None:
    rows_to(tmp_path / "test.csv", ROWS)
    loaded = load(tmp_path)
    assert any("the split 'test' is read, the only one" in note for note in loaded.notes)
    assert pairs(load(data(ROWS), eval_data=tmp_path).evaluation) == ROWS


@pytest.mark.parametrize("damage", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_damaged_saved_data_set_is_an_error(tmp_path: Path, damage: str) -> None:
    for content in (b"", b"{", b"\xff\xfe" * 50, b"[]"):
        folder = tmp_path / f"{damage}-{len(content)}"
        data(ROWS).save_to_disk(folder)
        (folder / damage).write_bytes(content)
        with pytest.raises(DataError):
            load(folder)


def test_the_rows_of_a_saved_data_set_are_those_that_it_had(tmp_path: Path) -> None:
    datasets.DatasetDict(train=data(ROWS).select([3, 1, 2, 0]), test=data(ROWS[:2])).save_to_disk(tmp_path / "saved")
    assert pairs(load(tmp_path / "saved").train) == [ROWS[i] for i in (3, 1, 2, 0)]


def test_a_folder_that_cannot_be_entered_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"Folder .* cannot be read: Permission denied\."):
        load(tmp_path)
